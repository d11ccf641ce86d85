from shared.pseudonym import pseudonym


def test_one_name_per_device_and_key():
    key, other = b"k" * 32, b"o" * 32
    assert pseudonym(key, "dev") == pseudonym(key, "dev")
    assert pseudonym(key, "dev") != pseudonym(other, "dev")
    assert pseudonym(key, "dev") != pseudonym(key, "dev2")


def test_its_shape_holds_nothing_of_the_id():
    name = pseudonym(b"k" * 32, "gateway-berlin")
    assert len(name) == 18
    assert name.startswith("p-")
    assert name == name.lower()
    assert "berlin" not in name
