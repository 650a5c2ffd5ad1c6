import pytest

from lob.errors import InputError
from models.configurations import BLOCKS, SIZES, MambaLOBConfig, configuration


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("size", SIZES)
def test_a_configuration_survives_its_dictionary(block, size):
    config = configuration(block=block, size=size)
    assert MambaLOBConfig.from_dict(config.as_dict()) == config


def test_base_is_the_reference_size():
    config = configuration(block="ssd", size="base")
    assert (config.layers, config.width, config.state_size, config.expand) == (4, 128, 16, 2)
    assert config.horizons == (10, 50, 100)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block": "lstm"}, "block is 'lstm'; allowed: s6, ssd"),
        ({"layers": 0}, "layers is 0; allowed: a whole number of at least 1"),
        ({"width": 12.5}, "width is 12.5"),
        ({"conv_width": 1}, "conv_width is 1; allowed: at least 2"),
        ({"head_width": 24}, "head_width is 24; allowed: a divisor of expand \\* width = 64"),
        ({"horizons": []}, "horizons is"),
        ({"classes": 2}, "classes is 2; allowed: 3"),
        ({"clip": 0.0}, "clip is 0.0"),
        ({"clip": float("nan")}, "clip is nan"),
        ({"colour": "red"}, "unknown fields \\['colour'\\]"),
    ],
)
def test_what_no_model_can_have_is_refused(changes, message):
    values = configuration(block="ssd", size="nano").as_dict()
    with pytest.raises(InputError, match=message):
        MambaLOBConfig.from_dict({**values, **changes})


def test_a_missing_field_is_named():
    values = configuration(block="s6", size="nano").as_dict()
    del values["width"]
    with pytest.raises(InputError, match="lacks the fields \\['width'\\]"):
        MambaLOBConfig.from_dict(values)


@pytest.mark.parametrize(("block", "size"), [("s6", "huge"), ("gru", "nano")])
def test_an_unknown_name_is_refused(block, size):
    with pytest.raises(InputError, match="allowed:"):
        configuration(block=block, size=size)
