"""Test of scripts/community_table.py, on the smallest of the reference files."""

import shutil

import helpers
import pytest

import community_table


@pytest.mark.parametrize("with_spandrel", [False, True])
def test_the_table_has_a_row_for_each_file(tmp_path, shared_data, capsys, monkeypatch, with_spandrel):
    if with_spandrel:
        helpers.import_spandrel("architectures")  # or skip
    else:
        monkeypatch.setattr(community_table, "import_spandrel", lambda: None)
    for name in ("compact_16_convs_x4_f16.pth", "compact_16_convs_x4_golden.npy", "lr48.npy"):
        shutil.copy(shared_data / "community" / name, tmp_path)
    community_table.main([str(tmp_path), "--size", "16", "--rounds", "1"])
    header, line, row = capsys.readouterr().out.splitlines()
    assert header == f"| {' | '.join(community_table.COLUMNS)} |" and line.count("---") == len(community_table.COLUMNS)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:3] == ["`compact_16_convs_x4_f16.pth`", "compact", "621,424"]
    assert float(cells[3]) < 1e-5  # of the output that was computed elsewhere
    difference, halo = cells[4].split(", halo ")
    # 18 convolutions of 3x3, and no pixel of the nearest base: a radius of 18.
    assert float(difference) < 1e-5 and halo == "18 px"
    assert float(cells[5]) > 0
    assert all((float(cell) > 0) if with_spandrel else cell == "-" for cell in cells[6:])


def test_a_folder_without_files_is_an_error(tmp_path):
    with pytest.raises(SystemExit, match="no files in"):
        community_table.main([str(tmp_path)])
