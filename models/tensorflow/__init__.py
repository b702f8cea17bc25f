"""Training in TensorFlow: twins of the networks from Merlin Models' TensorFlow blocks, over the same batches.

What is kept of a model stays PyTorch's: a twin takes its weights from it and gives them back after each epoch, so
validation, checkpoints, evaluation and export know nothing of TensorFlow. Nothing here is imported before a training
asks for it.
"""
