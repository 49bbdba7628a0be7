"""What N2D2 knows and is not here: its name, and why, or what to use instead."""

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
    "LRN": "local response normalization is not here; use BatchNorm",
    "LSTM": "recurrent cells are not here; prunecell itself prunes a torch LSTM",
    "Normalize": "it is not here; use BatchNorm",
    "Rbf": "radial basis functions are not here; use Fc",
    "Scaling": "it belongs to networks that are exported as integers",
    "TargetBias": "margins at the label's output are not here; leave the section out",
    "Transformation": "transformations stand before the network: [sp.Transformation...]",
}
REFUSED_ACTIVATIONS = {"LogisticWithLoss": "use Logistic, or a Softmax cell with WithLoss=1"}
_QUANTIZERS = "quantization is another subject; QWeight=Prune is here"
REFUSED_QUANTIZERS = dict.fromkeys(("LSQ", "SAT", "DoReFa"), _QUANTIZERS)
REFUSED_TARGETS = {
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
        "CentroidCropTransformation",
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
        "RandomAffineTransformation",
        "RangeClippingTransformation",
        "StripeRemoveTransformation",
        "ThresholdTransformation",
        "TrimTransformation",
        "WallisFilterTransformation",
    ),
    _NO_TRANSFORMATION,
)

# Keys that are refused, unless they are 0.

REFUSED_GLOBALS = {
    "FreeParametersDiscretization": _QUANTIZERS,
    "InsertBatchNormAfterConv": "write the BatchNorm sections that are meant",
    "SignalsDiscretization": _QUANTIZERS,
}
REFUSED_DATABASE_KEYS = {
    **dict.fromkeys(("ExtractROIs", "ROIDir", "ROIExtension", "ROIFile"), "stimuli are taken whole"),
    **dict.fromkeys(("LoadMore", "MultiChannelMatch", "TargetDataPath"), "one folder has the stimuli"),
}
REFUSED_PROVIDER_KEYS = {
    "CompositeStimuli": "labels per pixel are for segmentation; classification is here",
    "DataSignedMapping": "use a RangeAffineTransformation with FirstOperator=Minus, FirstValue=128, and so on",
    "QuantizationLevels": _QUANTIZERS,
    "SizeD": "stimuli have two dimensions here",
    "TargetSize": _SEGMENTATION,
    "TargetSizeX": _SEGMENTATION,
}
REFUSED_ONNX_KEYS = {
    "Transpose": "transpose the input: Type=Transpose",
}
REFUSED_CELL_KEYS = {
    "BiasesSharing": "cells that share biases are not here",
    "DropConnect": "it is not here; use Dropout",
    **dict.fromkeys(("InputHeight", "InputOffsetX", "InputOffsetY", "InputWidth"), "cells see their whole input"),
    "MeansSharing": "cells that share statistics are not here",
    "QAct": _QUANTIZERS,
    "ScalesSharing": "cells that share scales are not here",
    "VariancesSharing": "cells that share statistics are not here",
    "WeightsSharing": "cells that share weights are not here",
}
REFUSED_TARGET_KEYS = {
    "DataAsTarget": "networks that reproduce their input are not here",
    "LabelsMapping": "labels are the outputs in the order of the data: sort its folders",
    "MaskLabelTarget": _SEGMENTATION,
    "MaskedLabel": _SEGMENTATION,
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
    "StimulusType",
    "StreamLabel",
    "StreamPath",
    "StreamTensor",
)
IDLE_STIMULI_DATA = ("LogSizeRange", "LogValueRange")
IDLE_DATABASE = ("CompositeLabel", "DataFileLabel", "DefaultLabel", "ROIsMargin")
IDLE_ONNX = ("IgnoreInputSize",)
IDLE_CELL = ("OutputsRemap", "WeightsExportFlip", "WeightsExportFormat")
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
