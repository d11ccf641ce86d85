from shared.printable import printable


def test_what_would_steer_a_terminal_is_shown_as_such():
    assert printable("a\x1b[31mé\n\u202e°") == "a\ufffd[31mé\ufffd\ufffd°"
