"""The line of Python that makes what was refused a file that is taken."""

SAVE = 'torch.save(model.state_dict(), "weights.pth")'
_LINES: tuple[tuple[str, str], ...] = (
    ("TorchScript", 'torch.save(torch.jit.load("model.pt").state_dict(), "weights.pth")'),
    ("Python objects", f"{SAVE}  # where the class of the model is defined"),
    ("Keras", f"{SAVE}  # of the same layers in PyTorch; a Dense kernel is the transpose of a Linear weight"),
    ("TensorFlow", f"{SAVE}  # of the same layers in PyTorch"),
    ("state_dict", SAVE),
    ("torch.save", SAVE),
)


def advised(sentence: str) -> str:
    """The sentence, and a line of Python where one helps."""
    line = next((line for word, line in _LINES if word in sentence), None)
    return sentence if line is None else f"{sentence}. In Python: {line}"
