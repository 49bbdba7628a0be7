; What all ImageNet networks here share: the data, its augmentation, the solver, the pruning.
; Parameters: SIZE (of the network's input, in pixels), BATCH_SIZE, EPOCHS, LR.

[database]
Type=ILSVRC2012_Database
RandomPartitioning=0
Learn=1.0

[sp]
SizeX={{SIZE}}
SizeY={{SIZE}}
NbChannels=3
BatchSize={{BATCH_SIZE}}

[sp.Transformation-1]
Type=RescaleTransformation
Width=$({{SIZE}} + 32)
Height=$({{SIZE}} + 32)
KeepAspectRatio=1
ResizeToFit=0

[sp.Transformation-2]
Type=PadCropTransformation
Width=[sp.Transformation-1]Width
Height=[sp.Transformation-1]Height

[sp.Transformation-3]
Type=ColorSpaceTransformation
ColorSpace=RGB

[sp.Transformation-4]
Type=RangeAffineTransformation
FirstOperator=Minus
FirstValue=123.675 116.28 103.53 ; the mean of red, green, blue
SecondOperator=Divides
SecondValue=58.395 57.12 57.375 ; and the standard deviation

[sp.Transformation-5]
Type=SliceExtractionTransformation
ApplyTo=NoLearn
Width=[sp]SizeX
Height=[sp]SizeY
OffsetX=16
OffsetY=16

[sp.OnTheFlyTransformation-1]
Type=SliceExtractionTransformation
ApplyTo=LearnOnly
Width=[sp]SizeX
Height=[sp]SizeY
RandomOffsetX=1
RandomOffsetY=1

[sp.OnTheFlyTransformation-2]
Type=FlipTransformation
ApplyTo=LearnOnly
RandomHorizontalFlip=1

[solver.config]
WeightsSolver.LearningRate={{LR}}
WeightsSolver.Decay=0.0001
BiasSolver.LearningRate=$(2 * {{LR}})
Solvers.Momentum=0.9
Solvers.LearningRatePolicy=PolyDecay
Solvers.Power=1.0
Solvers.MaxIterations=$([sp]_EpochSize * {{EPOCHS}} / {{BATCH_SIZE}})

[prune.config]
QWeight.PruningMode=Gradual
QWeight.PruningFiller=IterNonStruct
QWeight.StartThreshold=0.3
QWeight.GammaThreshold=0.01 ; after each epoch
