"""The paper's figures: a builder a figure, `(FigureInputs) -> figures`, and the two kinds of drawing they use."""
