import pytest

from moos import devices


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("processor : 0\nflags : fpu avx512_bf16 amx_bf16 amx_tile\n", True),
        ("processor : 0\nflags : fpu avx512_bf16\nbugs : amx_bf16\n", False),
        ("processor : 0\nFeatures : fp asimd bf16\n", False),
        ("", False),
    ],
)
def test_matrix_units_for_bf16_are_read_off_the_processors_flags(
    cpuinfo, expected, tmp_path, monkeypatch
):
    path = tmp_path / "cpuinfo"
    path.write_text(cpuinfo)
    monkeypatch.setattr(devices, "CPUINFO", path)
    assert devices.has_bf16_tiles() is expected
    path.unlink()
    assert devices.has_bf16_tiles() is False
