"""Draw sevens with the bundled model, from Python."""

from imagen_workbench.core import open_model

model = open_model("digits")
drawn = model.draw(conditions=["7"], count=8, seed=7, guidance=1.5)
drawn.save("sevens.png")
