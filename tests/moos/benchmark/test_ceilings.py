import pytest

from moos.benchmark import ceilings
from moos.benchmark.ceilings import Ceilings
from moos.benchmark.machine import describe_machine


def test_every_rate_of_the_machine_is_measured(monkeypatch):
    monkeypatch.setattr(ceilings, "SMALLEST", 32)
    monkeypatch.setattr(ceilings, "TRY_S", 0.01)
    monkeypatch.setattr(ceilings, "COPY_BYTES", {"cpu": 1 << 16})
    monkeypatch.setattr(ceilings, "READ_BYTES", 1 << 20)
    rates = Ceilings("cpu").measure()
    assert {"fp32_gflop_s", "copy_gb_s", "read_gb_s"} <= set(rates)
    assert all(rate >= 0 for rate in rates.values())


def test_a_product_that_torch_lacks_has_no_rate():
    def missing(size):
        raise RuntimeError("not implemented for 'Char'")

    assert ceilings._best_rate(missing, "cpu") is None


def test_the_machine_is_described_with_its_versions():
    machine = describe_machine()
    assert machine["cores"] >= 1
    assert machine["cpu"]
    assert {"torch", "ray"} <= set(machine["versions"])


@pytest.mark.parametrize("geometry", ["xlm-roberta-base"])
def test_a_geometry_becomes_a_checkpoint_that_loads(geometry, tmp_path, monkeypatch):
    from moos.benchmark import geometries
    from moos.checkpoint import read_checkpoint

    monkeypatch.setattr(geometries, "_LAYERS_AND_HIDDEN", {geometry: (1, 64)})
    geometries.write_geometry(geometry, tmp_path)
    checkpoint = read_checkpoint(str(tmp_path))
    assert checkpoint.config["num_hidden_layers"] == 1
    assert checkpoint.moos.max_length == 512
