; Pairs of a depthwise convolution of 3 x 3 and a pointwise one, each with batch normalization.
; Parameters: INPUT, PAIR (their number), PAIR[i].STRIDE, PAIR[i].NB (of outputs at full width).

{% block PAIR %}
[{{SECTION_NAME}}_{{#}}_dw] conv_def
Input={{INPUT}}
KernelDims=3 3
NbOutputs=[{{INPUT}}]NbOutputs
Stride={{.STRIDE}}
Padding=1
Mapping.ChannelsPerGroup=1
QWeight.Threshold=0.3 ; a depthwise kernel has nine weights: few of them are idle

[{{SECTION_NAME}}_{{#}}_dw_bn] bn_def
Input={{SECTION_NAME}}_{{#}}_dw
NbOutputs=[{{SECTION_NAME}}_{{#}}_dw]NbOutputs

[{{SECTION_NAME}}_{{#}}_pw] conv_def
Input={{SECTION_NAME}}_{{#}}_dw_bn
KernelDims=1 1
NbOutputs=$(int({{.NB}} * ${ALPHA}))

[{{SECTION_NAME}}_{{#}}_bn] bn_def
Input={{SECTION_NAME}}_{{#}}_pw
NbOutputs=[{{SECTION_NAME}}_{{#}}_pw]NbOutputs
{% set INPUT %}{{SECTION_NAME}}_{{#}}_bn{% endset %}
{% endblock %}
