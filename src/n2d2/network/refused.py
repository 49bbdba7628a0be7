"""What N2D2 knows and is not here: its name, and why, or what to use instead."""

ELSEWHERE = {
    **dict.fromkeys(("relu", "reluactivation"), "Rectifier"),
    **dict.fromkeys(("sigmoid", "logisticsigmoid"), "Logistic"),
    "silu": "Swish",
    **dict.fromkeys(("linear", "dense", "fullyconnected"), "Fc"),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution"), "Conv"),
    **dict.fromkeys(("convtranspose2d", "conv2dtranspose"), "Deconv"),
    **dict.fromkeys(("maxpool", "maxpool2d", "maxpooling2d", "avgpool", "avgpool2d", "averagepooling2d"), "Pool"),
    **dict.fromkeys(("batchnorm2d", "batchnormalization"), "BatchNorm"),
    **dict.fromkeys(("add", "mul", "sum"), "ElemWise"),
    "flatten": "Reshape",
}
"""What other libraries call it, in small letters -> N2D2's name."""

_SPIKES = "spikes have no meaning here; Frame is the model of ordinary networks"
_CODES = "it turns a trained network into spikes; Frame is the model of ordinary networks"
REFUSED_MODELS = {
    **dict.fromkeys(
        ("CSpike", "CSpike_BP", "PCM", "RRAM", "Spike", "Spike_Analog", "Spike_PCM", "Spike_RRAM"), _SPIKES
    ),
    **dict.fromkeys(("CSpike_CUDA", "CSpike_BP_CUDA"), _SPIKES),
    **dict.fromkeys(("Transcode", "Transcode_CUDA"), _CODES),
}
MODELS = ("Frame", "Frame_CUDA", "Frame_EXT_CUDA")
DATATYPES = ("Float32", "Float16", "Float64")

_DETECTION = "object detection is not here; classification is"
_SEGMENTATION = "segmentation is not here; classification is"
REFUSED_CELLS = {
    **dict.fromkeys(("Anchor", "ObjectDet", "Proposal", "ROIPooling", "RP"), _DETECTION),
    **dict.fromkeys(("Resize", "Threshold", "Unpool"), _SEGMENTATION),
    "Distance": "distances to prototypes are not here; use Fc",
    "FMP": "fractional pooling is not here; use Pool",
    "LSTM": "recurrent cells are not here; prunecell itself prunes a torch LSTM",
    "Rbf": "radial basis functions are not here; use Fc",
    "Scaling": "it belongs to networks that are exported as integers",
    "TargetBias": "margins at the label's output are not here; leave the section out, and take its Input instead",
    "Transformation": "transformations stand before the network: [sp.Transformation...]",
}
REFUSED_NORMS = {"L1": "N2D2 names it, and computes L2 only; use L2"}
REFUSED_ACTIVATIONS = {"LogisticWithLoss": "use Logistic, or a Softmax cell with WithLoss=1"}
_QUANTIZERS = "quantization is another subject; QWeight=Prune is here"
REFUSED_QUANTIZERS = dict.fromkeys(("LSQ", "SAT", "DoReFa"), _QUANTIZERS)
REFUSED_TARGETS = {
    "Target": "it only tells a TargetBias the labels; use TargetScore",
    "TargetAggregate": _DETECTION,
    "TargetBBox": _DETECTION,
    "TargetCompare": "it compares with stored outputs; use TargetScore",
    "TargetMatching": "use TargetScore",
    "TargetROIs": _DETECTION,
    "TargetRP": _DETECTION,
}
_FOLDERS = "it is not here; images in a folder for each label are a DIR_Database"
REFUSED_DATABASES = {
    **dict.fromkeys(("CKP_Database", "Caltech101_DIR_Database", "Caltech256_DIR_Database"), _FOLDERS),
    **dict.fromkeys(("CSV_Database", "CelebA_Database", "Actitracker_Database"), _FOLDERS),
    **dict.fromkeys(("Cityscapes_Database", "KITTI_Road_Database", "LITISRouen_Database"), _SEGMENTATION),
    **dict.fromkeys(("CaltechPedestrian_Database", "DOTA_Database", "Daimler_Database", "FDDB_Database"), _DETECTION),
    **dict.fromkeys(("GTSDB_DIR_Database", "IMDBWIKI_Database", "KITTI_Database", "KITTI_Object_Database"), _DETECTION),
    "N_MNIST_Database": _SPIKES,
}
_NO_TRANSFORMATION = "it is not here; transform the images beforehand"
REFUSED_TRANSFORMATIONS = dict.fromkeys(
    (
        "AffineTransformation",
        "ApodizationTransformation",
        "BlendingTransformation",
        "CentroidCropTransformation",
        "ChannelDropTransformation",
        "ChannelShakeTransformation",
        "CompressionNoiseTransformation",
        "DCTTransformation",
        "DFTTransformation",
        "ExpandLabelTransformation",
        "FilterTransformation",
        "GradientFilterTransformation",
        "LabelExtractionTransformation",
        "LabelFilterTransformation",
        "LabelSliceExtractionTransformation",
        "MagnitudePhaseTransformation",
        "MorphologicalReconstructionTransformation",
        "MorphologyTransformation",
        "NormalizeTransformation",
        "ROIExtractionTransformation",
        "RandomAffineTransformation",
        "RangeClippingTransformation",
        "StripeRemoveTransformation",
        "ThresholdTransformation",
        "TrimTransformation",
        "WallisFilterTransformation",
    ),
    _NO_TRANSFORMATION,
)

# Keys that are refused, unless they are 0 or what NEUTRAL has.

NEUTRAL = {"DropConnect": ("1", "1.0")}

REFUSED_GLOBALS = {
    "FreeParametersDiscretization": _QUANTIZERS,
    "InsertBatchNormAfterConv": "write the BatchNorm sections that are meant",
    "SignalsDiscretization": _QUANTIZERS,
}
REFUSED_DATABASE_KEYS = {
    **dict.fromkeys(
        ("ExtractROIs", "ROIDir", "ROIExtension", "ROIFile"), "stimuli are taken whole: cut them out beforehand"
    ),
    **dict.fromkeys(
        ("LoadMore", "MultiChannelMatch", "MultiChannelReplace", "TargetDataPath"),
        "one folder has the stimuli: link what is elsewhere into it",
    ),
}
REFUSED_PROVIDER_KEYS = {
    "CompositeStimuli": "labels per pixel are for segmentation; classification is here",
    "DataSignedMapping": "use a RangeAffineTransformation with FirstOperator=Minus, FirstValue=128, and so on",
    "QuantizationLevels": _QUANTIZERS,
    "SizeD": "stimuli have two dimensions here",
    **dict.fromkeys(("TargetSize", "TargetSizeD", "TargetSizeX", "TargetSizeY"), _SEGMENTATION),
}
REFUSED_ONNX_KEYS = {
    "Transpose": "transpose the input: Type=Transpose",
}
REFUSED_CELL_KEYS = {
    "BiasesSharing": "cells that share biases are not here",
    "DropConnect": "it is not here; use Dropout",
    **dict.fromkeys(("InputHeight", "InputOffsetX", "InputOffsetY", "InputWidth"), "cells see their whole input"),
    "Normalize": "weights are not scaled here; Type=Normalize scales what a cell takes",
    "MeansSharing": "cells that share statistics are not here",
    "QAct": _QUANTIZERS,
    "ScalesSharing": "cells that share scales are not here",
    "VariancesSharing": "cells that share statistics are not here",
    "WeightsSharing": "cells that share weights are not here",
}
REFUSED_TARGET_KEYS = {
    "DataAsTarget": "networks that reproduce their input are not here; give a cell a [CELL.Target] that tells classes",
    "LabelsMapping": "labels are the outputs in the order of the data: sort its folders",
    "MaskLabelTarget": _SEGMENTATION,
    "MaskedLabel": _SEGMENTATION,
    "MaskedLabelValue": _SEGMENTATION,
    "ROIsLabelTarget": _DETECTION,
    "WeakTarget": _SEGMENTATION,
}

# What N2D2 knows and what has no effect here; a warning tells it.

IDLE_GLOBALS = ("CheckWeightRange",)
IDLE_PROVIDER = (
    "CachePath",
    "DiscardedLateStimuli",
    "PeriodMeanMax",
    "PeriodMeanMin",
    "PeriodMin",
    "PeriodRelStdDev",
    "QuantizationMax",
    "QuantizationMin",
    "StimulusType",
    "StreamLabel",
    "StreamPath",
    "StreamTensor",
)
IDLE_STIMULI_DATA = ("LogSizeRange", "LogValueRange")
IDLE_DATABASE = ("CompositeLabel", "DataFileLabel", "DefaultLabel", "ROIsMargin")
IDLE_ONNX = ("IgnoreInputSize",)
IDLE_SPIKES = (
    "BipolarIntegration",
    "BipolarThreshold",
    "BipolarWeights",
    "DigitalIntegration",
    "EnableStdp",
    "IncomingDelay",
    "InhibitRefractory",
    "Leak",
    "LtdProba",
    "LtpProba",
    "Refractory",
    "RefractoryIntegration",
    "StdpLtp",
    "SynapticRedundancy",
    "TerminateDelta",
    "Threshold",
    "WeightsMaxMean",
    "WeightsMaxVarOrigin",
    "WeightsMaxVarSlope",
    "WeightsMinMean",
    "WeightsMinVarOrigin",
    "WeightsMinVarSlope",
    "WeightsRelInit",
    "WeightsResetProba",
    "WeightsSetProba",
)
"""Of a cell; a file may have them for other models beside Frame."""

IDLE_CELL = ("OutputsRemap", "WeightsExportFlip", "WeightsExportFormat", *IDLE_SPIKES)
IDLE_TARGET = (
    "BinaryThreshold",
    "ConfusionQuantSteps",
    "ConfusionRangeMax",
    "ConfusionRangeMin",
    "CreateMissingLabels",
    "EstimatedLabelsValueDisplay",
    "ImageLogFormat",
    "LabelsHueOffset",
    "NoDisplayLabel",
    "ValueThreshold",
)
