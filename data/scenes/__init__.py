"""Made scenes of people with exact labels: cut-outs of single people, put together into pictures, and words
for them."""
