"""Dressed and posed 3-D people: `assets` reads garments, `poses` samples joints, `body` dresses, `render` draws."""
