"""[database], [sp] and its transformations: read without touching any data."""

import pytest
import torch

from n2d2 import database, ini, transform
from n2d2.network.environment import read_environment

DATABASE = ["[database]", "Type=MNIST_IDX_Database", "Validation=0.1"]
PROVIDER = ["[sp]", "SizeX=32", "SizeY=24", "BatchSize=8"]
EXTRACTION = ["[sp.ChannelTransformation-1]", "Type=ChannelExtractionTransformation", "CSChannel=Red"]


def environment_of(*lines, **options):
    return read_environment(ini.parse("\n".join(lines), file="net.ini"), **options)


def test_every_parameter_of_a_database_is_a_key():
    lines = ("[database]", "Type=CIFAR10_Database", "UseTestForValidation=1", "LoadInMemory=1", *PROVIDER)
    assert environment_of(*lines).provider.database.get_nb_stimuli("Validation") == 10_000
    lines = ("[database]", "Type=ILSVRC2012_Database", "Learn=0.5", "UseValidationForTest=0", *PROVIDER)
    sizes = [environment_of(*lines).provider.database.get_nb_stimuli(part) for part in ("Validation", "Test")]
    assert sizes == [50_000, 640_583]


def test_a_reshape_is_a_transformation():
    lines = ("[sp.Transformation]", "Type=ReshapeTransformation", "NbRows=2", "NbCols=3")
    assert environment_of(*DATABASE, *PROVIDER, *lines).provider.transformations == (transform.Reshape(2, nb_cols=3),)


def test_a_provider_of_a_database_that_is_not_opened():
    environment = environment_of("[database]", "Type=DIR_Database", "DataPath=/nowhere", "Learn=0.6", *PROVIDER)
    assert isinstance(environment.provider.database, database.DIR)
    assert environment.provider.database.learn == 0.6
    assert environment.provider.shape() == [8, 1, 24, 32]


def test_another_folder_takes_the_place_of_the_file_s_even_where_that_leads_nowhere():
    lines = ("[database]", "Type=CIFAR10_Database", "DataPath=${NOWHERE}/cifar", *PROVIDER)
    assert environment_of(*lines, data_path="/data").provider.database.data_path == "/data"
    with pytest.raises(ini.IniError, match=r"net.ini:3: .*NOWHERE.* is defined nowhere"):
        environment_of(*lines)


def test_env_is_the_other_name_of_sp_and_size_the_other_way_to_give_it():
    environment = environment_of(*DATABASE, "[env]", "Size=5 4 3")
    assert environment.section.name == "env"
    assert environment.provider.shape() == [1, 3, 4, 5]


def test_the_epoch_size_is_known_without_the_data():
    environment = environment_of(
        "[database]", "Type=CIFAR10_Database", "DataPath=/nowhere", "Validation=0.2", *PROVIDER
    )
    assert environment.section.owner.resolver("sp", "_EpochSize") == 40_000
    assert environment.section.owner.resolver("sp", "_Nothing") is None


@pytest.mark.parametrize("lines", [[], ["[database]"]])
def test_without_a_database_there_are_no_stimuli(lines):
    with pytest.warns(ini.IniWarning, match=r"net.ini: no \[database\] with a Type"):
        environment = environment_of(*lines, *PROVIDER)
    assert environment.provider.epoch_size == 0


def test_a_configuration_section_may_be_named_like_a_part_of_the_provider():
    environment = environment_of(
        *DATABASE, "[sp]", "SizeX=4", "SizeY=4", "ConfigSection=sp.config", "[sp.config]", "BatchSize=2"
    )
    assert environment.provider.shape() == [2, 1, 4, 4]


def test_channels_are_made_each_by_itself():
    affine = ["Type=RangeAffineTransformation", "FirstOperator=Minus"]
    environment = environment_of(
        *(*DATABASE, *PROVIDER, *EXTRACTION),
        *("[sp.ChannelTransformation-2]", "Type=ChannelExtractionTransformation", "CSChannel=Blue"),
        *("[sp.ChannelTransformation-3]", "Channel=0", *affine, "FirstValue=3"),
        *("[sp.ChannelTransformation-4]", "Channel=1", *affine, "FirstValue=1"),
    )
    assert environment.provider.shape() == [8, 2, 24, 32]
    (channels,) = environment.provider.transformations
    image = torch.tensor([10, 20, 30], dtype=torch.uint8).reshape(1, 3, 1, 1)
    assert channels(image).flatten().tolist() == [30 - 3, 10 - 1]


def test_transformations_stand_in_the_order_of_the_file():
    environment = environment_of(
        *DATABASE,
        *PROVIDER,
        *("[sp.Transformation-b]", "Type=PadCropTransformation", "Width=32", "Height=[sp]SizeY"),
        *("[sp.Transformation-a]", "Type=RangeAffineTransformation", "FirstOperator=Minus", "FirstValue=0.5"),
        *("[sp.OnTheFlyTransformation]", "Type=FlipTransformation", "ApplyTo=LearnOnly", "RandomHorizontalFlip=1"),
    )
    pad, affine = environment.provider.transformations
    assert pad == transform.PadCrop(32, 24)
    assert affine == transform.RangeAffine("Minus", 0.5)
    (flip,) = environment.provider.on_the_fly_transformations
    assert flip == transform.Flip(random_horizontal_flip=True, apply_to="LearnOnly")


def test_mean_and_deviation_of_the_data_are_worked_out_when_a_stimulus_is_read():
    environment = environment_of(
        *("[database]", "Type=DIR_Database", "Learn=1"),
        *("[sp]", "SizeX=1", "SizeY=1"),
        *("[sp.Transformation-1]", "Type=RangeAffineTransformation", "FirstOperator=Multiplies", "FirstValue=2"),
        "[sp.StimuliData-raw]",
        *("[sp.Transformation-2]", "Type=RangeAffineTransformation", "FirstOperator=Minus"),
        "FirstValue=[sp.StimuliData-raw]_GlobalValue.mean",
        *("SecondOperator=Divides", "SecondValue=[sp.StimuliData-raw]_GlobalValue.stdDev"),
    )
    data = database.Numpy()
    data.load([torch.full((1, 1), value).numpy() for value in (1.0, 3.0)], [0, 1], "Learn")
    environment.provider.database._stimuli = data.stimuli
    images = torch.cat([x for x, _ in environment.provider.batches("Learn", shuffle=False)])
    assert images.flatten().tolist() == [-1, 1]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (DATABASE, r"^net.ini: section \[sp\] is missing"),
        ([*DATABASE, "[sp]", "SizeX=3"], r"^net.ini:4: \[sp\] SizeY is missing$"),
        ([*DATABASE, "[sp]", "SizeX=0"], r"^net.ini:5: \[sp\] SizeX='0' is illegal: it must be a whole number >= 1"),
        (
            [*DATABASE, "[sp]", "Size=3 3"],
            r"^net.ini:5: \[sp\] Size='3 3' is illegal: it must be width, height, channels",
        ),
        (
            [*DATABASE, *PROVIDER, "CompositeStimuli=1"],
            r"^net.ini:8: \[sp\] CompositeStimuli is refused: .*segmentation",
        ),
        (["[database]", "Type=MNIST_Database"], r"^net.ini:2: \[database\] Type='MNIST_D.* did you mean 'MNIST_IDX_D"),
        (["[database]", "Type=COCO_Database"], r"^net.ini:2: .* is illegal; legal: CIFAR100_Database, "),
        (
            ["[database]", "Type=MNIST_IDX_Database", "Validation=2"],
            r"^net.ini:3: \[database\] Validation=2.0 is illegal",
        ),
        ([*DATABASE, "[database.slicing]", *PROVIDER], r"^net.ini:4: \[database.slicing\] is refused"),
        ([*DATABASE, *PROVIDER, "[sp.Transfo]"], r"^net.ini:8: \[sp.Transfo\] is unknown: .*OnTheFlyTransformation"),
        ([*DATABASE, *PROVIDER, "[sp.ChannelTransformation]"], r"^net.ini:8: .* Type is missing"),
        ([*DATABASE, *PROVIDER, *EXTRACTION, "Channel=1"], r"^net.ini:11: .*Channel='1' is illegal: there are 0"),
        ([*DATABASE, *PROVIDER, *EXTRACTION, "ApplyTo=NoTest"], r"^net.ini:11: .*ApplyTo is refused: channels are"),
        ([*DATABASE, *PROVIDER, "[sp.ChannelsTransformation]"], r"^net.ini:8: .* is refused: .*ChannelTransf"),
        ([*DATABASE, "LoadMore=more"], r"^net.ini:4: .*LoadMore is refused: one folder has the stimuli"),
        (["[database]", "Type=DOTA_Database"], r"^net.ini:2: \[database\] Type=DOTA_Database is refused: object det"),
        ([*DATABASE, *PROVIDER, "[sp.Transformation]"], r"^net.ini:8: \[sp.Transformation\] Type is missing"),
        (
            [*DATABASE, *PROVIDER, "[sp.Transformation]", "Type=DFTTransformation"],
            r"^net.ini:9: \[sp.Transformation\] Type=DFTTransformation is refused",
        ),
        (
            [*DATABASE, *PROVIDER, "[sp.Transformation]", "Type=FlipTransformation", "ApplyTo=Learn"],
            r"^net.ini:10: \[sp.Transformation\] ApplyTo='Learn' is illegal; .*[Ll]egal: All, LearnOnly",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_line(lines, message):
    with pytest.raises(ini.IniError, match=message):
        environment_of(*lines)


def test_what_has_no_effect_is_told():
    with pytest.warns(ini.IniWarning, match=r"net.ini:8: \[sp\]CachePath has no effect here"):
        environment_of(*DATABASE, *PROVIDER, "CachePath=/tmp/cache")
