; The classifier of both SqueezeNets: a convolution with one output per class, averaged over the map.
; Parameter: INPUT, the name of the last fire module.

[drop_1x1]
Input={{INPUT}}_1x1
Type=Dropout
NbOutputs=[{{INPUT}}_1x1]NbOutputs

[drop_3x3]
Input={{INPUT}}_3x3
Type=Dropout
NbOutputs=[{{INPUT}}_3x3]NbOutputs

[conv10] conv_def
Input=drop_1x1,drop_3x3
KernelDims=1 1
NbOutputs=1000
WeightsFiller=NormalFiller
WeightsFiller.Mean=0.0
WeightsFiller.StdDev=0.01

[pool10]
Input=conv10
Type=Pool
PoolDims=[conv10]_OutputsWidth [conv10]_OutputsHeight
NbOutputs=[conv10]NbOutputs
Pooling=Average
Mapping.ChannelsPerGroup=1

[softmax]
Input=pool10
Type=Softmax
NbOutputs=[pool10]NbOutputs
WithLoss=1

[softmax.Target]
TopN=5
