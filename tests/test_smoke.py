def test_import():
    import refhcm

    assert refhcm.__doc__
