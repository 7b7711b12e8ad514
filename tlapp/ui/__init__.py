"""The web page, thin over the library.

One file per tab (data, train, results, test); `live` is the run panel of the train tab, `app` puts them together,
`serve` serves them. Importing this package imports neither Gradio nor torch.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from tlapp import decisions, jobs, runs, workspace
from tlapp.history import empty_trash
from tlapp.ui import serve

if TYPE_CHECKING:
    import gradio as gr


def build_app(is_shared: bool = False) -> gr.Blocks:
    """The page, which says it where several people share it. Torch is imported when the first browser has it before
    it, so that it comes up at once.
    """
    from tlapp.ui import app

    return app.build_app(is_shared)


def launch(
    host: str = "127.0.0.1", port: int | None = None, auth: str = "", browser: bool = True, **more: Any
) -> serve.Served:
    """Serve the page until Ctrl-C; `more` and errors are those of `serve.launch`."""

    def look() -> dict[str, Any]:
        from tlapp.ui import app

        return app.look()

    home = workspace.home()
    empty_trash(home)
    decisions.sweep(home, runs.datasets_of(home))
    shown = partial(build_app, is_shared=bool(auth))  # without a password only this machine is served
    return serve.launch(shown, host, port, auth, browser, look=look, on_close=jobs.close, **more)


__all__ = ["build_app", "launch"]
