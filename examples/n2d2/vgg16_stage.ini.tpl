; DEPTH convolutions of 3 x 3 one after another, then a pooling that halves the map.
; Parameters: INPUT, NB (of outputs), DEPTH.

{% for i in range(DEPTH) %}
[{{SECTION_NAME}}_{{i}}] conv_def
{% if i == 0 %}
Input={{INPUT}}
{% else %}
Input={{SECTION_NAME}}_$({{i}} - 1)
{% endif %}
NbOutputs={{NB}}
{% endfor %}

[{{SECTION_NAME}}_pool]
Input={{SECTION_NAME}}_$({{DEPTH}} - 1)
Type=Pool
PoolDims=2 2
NbOutputs={{NB}}
Stride=2
Pooling=Max
Mapping.ChannelsPerGroup=1
