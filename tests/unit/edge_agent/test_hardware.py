from pathlib import Path

import pytest

from edge_agent.hardware import Hardware, look, named

BOARD = {"proc/device-tree/serial-number": "10000000abcdef\0"}
DMI = {"sys/class/dmi/id/product_uuid": "4c4c4544-0042\n", "sys/class/dmi/id/board_serial": "CN7\n"}
MACHINE = {"etc/machine-id": "0123456789abcdef0123456789abcdef\n"}


def box(root: Path, files: dict[str, str], adapters: dict[str, tuple[str, str]] | None = None) -> Hardware | None:
    """`adapters`: name to (address, where its device hangs)."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name, (address, bus) in (adapters or {}).items():
        place = root / "sys/class/net" / name
        place.mkdir(parents=True)
        (place / "address").write_text(address + "\n")
        (place / "addr_assign_type").write_text("0\n" if bus != "made-up" else "3\n")
        if bus:
            device = root / "sys/devices" / bus / name
            device.mkdir(parents=True)
            (place / "device").symlink_to(device)
    return look(root)


def test_the_board_names_it_whatever_else_changes(tmp_path: Path) -> None:
    plain = box(tmp_path / "a", BOARD)
    assert plain is not None
    assert (plain.source, plain.serial, len(plain.id)) == ("board", "10000000abcdef", 64)
    again = box(tmp_path / "b", BOARD | MACHINE, {"eth0": ("02:00:00:00:00:01", "pci0")})
    assert again == plain, "a new system, a new adapter: the same hardware"
    other = box(tmp_path / "c", DMI)
    assert other is not None
    assert other.id != plain.id
    assert "4c4c4544-0042" not in other.id


@pytest.mark.parametrize("text", ["To Be Filled By O.E.M.", "None", "", "0000000", "Default string"])
def test_what_makers_leave_is_no_name(tmp_path: Path, text: str) -> None:
    found = box(tmp_path, {"sys/class/dmi/id/board_serial": text} | MACHINE)
    assert found is not None
    assert found.source == "machine-id"


def test_built_in_adapters_name_it_and_others_do_not(tmp_path: Path) -> None:
    fixed = {"eth0": ("AA:00:00:00:00:02", "pci0"), "wlan0": ("aa:00:00:00:00:01", "pci1")}
    loose = {"usb0": ("aa:00:00:00:00:00", "usb1"), "veth0": ("aa:00:00:00:00:00", ""), "x": ("aa:00", "made-up")}
    plain = box(tmp_path / "a", MACHINE, fixed)
    assert plain is not None
    assert (plain.source, plain.serial) == ("adapters", "aa0000000001")
    assert box(tmp_path / "b", MACHINE, fixed | loose) == plain


def test_the_machine_id_itself_is_not_told(tmp_path: Path) -> None:
    found = box(tmp_path, MACHINE)
    assert found is not None
    assert found.source == "machine-id"
    assert "0123456789ab" not in found.id + found.serial


def test_hardware_without_any_name(tmp_path: Path) -> None:
    assert box(tmp_path, {}) is None


def test_hardware_that_the_operator_names() -> None:
    assert named("gw-1") == named("gw-1")
    assert named("gw-1").id != named("gw-2").id
    assert named("gw-1").serial == "gw-1"
