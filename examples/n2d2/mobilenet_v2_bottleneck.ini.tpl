; An inverted residual: a pointwise convolution widens EXPANSION times (or not at all), a depthwise one filters, a linear
; pointwise one narrows to NB outputs. Further parameters: INPUT, STRIDE, RESIDUAL (or none: no shortcut).

{% if EXPANSION exists %}
[{{SECTION_NAME}}_expand] conv_def
Input={{INPUT}}
KernelDims=1 1
NbOutputs=$({{EXPANSION}} * [{{INPUT}}]NbOutputs)

[{{SECTION_NAME}}_expand_bn] bn_def
Input={{SECTION_NAME}}_expand
NbOutputs=[{{SECTION_NAME}}_expand]NbOutputs
{% set WIDE %}{{SECTION_NAME}}_expand_bn{% endset %}
{% else %}
{% set WIDE %}{{INPUT}}{% endset %}
{% endif %}

[{{SECTION_NAME}}_dw] conv_def
Input={{WIDE}}
KernelDims=3 3
NbOutputs=[{{WIDE}}]NbOutputs
Stride={{STRIDE}}
Padding=1
Mapping.ChannelsPerGroup=1
QWeight.Threshold=0.3 ; a depthwise kernel has nine weights: few of them are idle

[{{SECTION_NAME}}_dw_bn] bn_def
Input={{SECTION_NAME}}_dw
NbOutputs=[{{SECTION_NAME}}_dw]NbOutputs

[{{SECTION_NAME}}_linear] conv_def
Input={{SECTION_NAME}}_dw_bn
KernelDims=1 1
NbOutputs={{NB}}

[{{SECTION_NAME}}_bn] bn_def
Input={{SECTION_NAME}}_linear
NbOutputs={{NB}}
ActivationFunction=Linear

{% if RESIDUAL exists %}
[{{SECTION_NAME}}_sum]
Input={{SECTION_NAME}}_bn,{{INPUT}}
Type=ElemWise
Operation=Sum
NbOutputs={{NB}}
{% endif %}
