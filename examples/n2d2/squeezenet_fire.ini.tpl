; A fire module: few outputs squeeze the channels, two convolutions side by side expand them again.
; What follows takes both as its input: _1x1,_3x3, or with POOL _pool_1x1,_pool_3x3.
; Parameters: INPUT, NB (of squeezed outputs), POOL (or none).

[{{SECTION_NAME}}_squeeze] conv_def
Input={{INPUT}}
KernelDims=1 1
NbOutputs={{NB}}

[{{SECTION_NAME}}_1x1] conv_def
Input={{SECTION_NAME}}_squeeze
KernelDims=1 1
NbOutputs=$(4 * {{NB}})

[{{SECTION_NAME}}_3x3] conv_def
Input={{SECTION_NAME}}_squeeze
KernelDims=3 3
NbOutputs=$(4 * {{NB}})
Padding=1

{% if POOL exists %}
[{{SECTION_NAME}}_pool_1x1] pool_def
Input={{SECTION_NAME}}_1x1
NbOutputs=[{{SECTION_NAME}}_1x1]NbOutputs

[{{SECTION_NAME}}_pool_3x3] pool_def
Input={{SECTION_NAME}}_3x3
NbOutputs=[{{SECTION_NAME}}_3x3]NbOutputs
{% endif %}
