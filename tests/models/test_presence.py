"""The presence head: a second output of the network, stored with it."""

from dataclasses import replace

import pytest
import torch

from napari_skinseg.errors import BadInput
from napari_skinseg.models import bundle
from napari_skinseg.models.network import build
from napari_skinseg.models.presence import NetworkWithPresence, PresenceHead, count_features

SIZE = (64, 64)
SMALL = {
    "UNet": {"channels": [4, 8, 8]},
    "SegResNet": {"init_filters": 8, "blocks_down": [1, 1, 1]},
    "FlexibleUNet": {"decoder_channels": [8, 8, 8, 8, 8]},
}


@pytest.mark.parametrize("name", SMALL)
def test_the_head_changes_no_logit(name):
    torch.manual_seed(0)
    network = build(name, SMALL[name]).eval()
    features = count_features(network, SIZE)
    assert features is not None
    both = NetworkWithPresence(network, PresenceHead(features)).eval()
    photos = torch.randn(2, 6, *SIZE)
    with torch.inference_mode():
        logits, presence = both(photos)
        torch.testing.assert_close(logits, network(photos))
    assert presence.shape == (2,)


def test_a_network_without_a_separate_encoder_has_no_head():
    assert count_features(build("AttentionUnet", {"channels": [4, 8]}).eval(), SIZE) is None


@pytest.fixture
def with_head(spot_finder):
    model = bundle.load(spot_finder)
    features = count_features(model.network, model.spec.input_size)
    assert features is not None
    return replace(model, spec=replace(model.spec, presence=True), presence=PresenceHead(features).eval())


def test_the_head_is_stored_with_the_network(with_head, tmp_path):
    bundle.save(tmp_path, with_head.spec, with_head.network, presence=with_head.presence)
    again = bundle.load(tmp_path)
    assert again.spec == with_head.spec
    photos = torch.randn(1, 6, *again.spec.input_size)
    with torch.inference_mode():
        for stored, first in zip(again.with_presence(photos), with_head.with_presence(photos), strict=True):
            torch.testing.assert_close(stored, first, atol=0.02, rtol=0.02)  # weights are stored in float16


def test_older_versions_refuse_a_model_with_a_head_and_read_one_without(with_head, spot_finder, tmp_path):
    bundle.save(tmp_path, with_head.spec, with_head.network, presence=with_head.presence)
    assert '"format": 2' in (tmp_path / bundle.METADATA).read_text(encoding="utf-8")
    assert '"format": 1' in (spot_finder / bundle.METADATA).read_text(encoding="utf-8")


def test_a_head_that_is_described_but_missing_is_refused(with_head, spot_finder, tmp_path):
    with pytest.raises(BadInput, match="not in both"):
        bundle.save(tmp_path, with_head.spec, with_head.network)
    bundle.save(tmp_path, replace(with_head.spec, presence=False), with_head.network)
    bundle.write_spec(tmp_path, with_head.spec)
    with pytest.raises(BadInput, match="does not fit the network"):
        bundle.load(tmp_path)
