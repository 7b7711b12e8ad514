"""Teach a pretrained network your own photos.

The path, each step one call: ``dataset.scan`` → ``plan.suggest`` → ``jobs.start`` → ``predict.load``.
Importing this package imports nothing else; torch comes in when a run or a prediction needs it.
"""

__version__ = "0.1.0"
