"""Dressed and posed 3-D people.

`assets` reads garments, `wardrobe` chooses a look, `poses` samples joints, `model` is the naked body, `body`
puts clothes on it, `render` draws it, `portrait` cuts it out.
"""
