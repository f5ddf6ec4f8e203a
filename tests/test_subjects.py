"""What the measuring tools measure is what its name says."""

import pytest
from figures.paper import NETWORKS

from mmseg_dynet.ops import DyConv2d
from mmseg_dynet.subjects import build_subject, subject_size

CONFIG = "configs/dynet/dy-r18-d16_fcn_1xb4-200_synthetic-streets-128x256.py"


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_dynamic_if_their_name_says_so(name):
    model, _ = build_subject(name)
    kernels = {m.num_kernels for m in model.modules() if isinstance(m, DyConv2d)}
    assert kernels == ({6} if "Dy-" in name else set())
    assert not model.training
    assert subject_size(name) == ((768, 768) if "FCN" in name else (224, 224))


def test_a_config_says_its_classes_and_its_size(request):
    path = str(request.config.rootpath / CONFIG)
    model, num_classes = build_subject(path)
    assert num_classes == model.decode_head.num_classes == 19
    assert subject_size(path) == (128, 256)


def test_another_name_is_no_network():
    with pytest.raises(FileNotFoundError, match="no config file at Dy-ResNet19"):
        build_subject("Dy-ResNet19")
