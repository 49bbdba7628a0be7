; Two convolutions of 3 x 3 around a shortcut; with STRIDE the block halves the map, and the shortcut is projected.
; Parameters: INPUT, NB (of outputs), STRIDE (or none).

[{{SECTION_NAME}}_a] conv_def
Input={{INPUT}}
KernelDims=3 3
NbOutputs={{NB}}
{% if STRIDE exists %}
Stride={{STRIDE}}
{% endif %}
Padding=1

[{{SECTION_NAME}}_bn_a] bn_def
Input={{SECTION_NAME}}_a
NbOutputs={{NB}}

[{{SECTION_NAME}}_b] conv_def
Input={{SECTION_NAME}}_bn_a
KernelDims=3 3
NbOutputs={{NB}}
Padding=1

[{{SECTION_NAME}}_bn_b] bn_def
Input={{SECTION_NAME}}_b
NbOutputs={{NB}}
ActivationFunction=Linear

{% if STRIDE exists %}
[{{SECTION_NAME}}_projection] conv_def
Input={{INPUT}}
KernelDims=1 1
NbOutputs={{NB}}
Stride={{STRIDE}}

[{{SECTION_NAME}}_bn_projection] bn_def
Input={{SECTION_NAME}}_projection
NbOutputs={{NB}}
ActivationFunction=Linear
{% set INPUT %}{{SECTION_NAME}}_bn_projection{% endset %}
{% endif %}

[{{SECTION_NAME}}_sum]
Input={{SECTION_NAME}}_bn_b,{{INPUT}}
Type=ElemWise
Operation=Sum
NbOutputs={{NB}}
ActivationFunction=Rectifier
