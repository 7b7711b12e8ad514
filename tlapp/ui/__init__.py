"""The web page, thin over the library.

One file per tab (data, train, results, test); `live` is the run panel of the train tab, `app` puts them together,
`serve` serves them. Importing this package imports neither Gradio nor torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tlapp import jobs
from tlapp.tasks import Task
from tlapp.ui import serve

if TYPE_CHECKING:
    import gradio as gr


def build_app() -> gr.Blocks:
    """The page; torch is imported behind it, as the first person who needs it would wait."""
    from tlapp.ui import app

    Task(lambda report: jobs.device_words())
    return app.build_app()


def launch(
    host: str = "127.0.0.1", port: int | None = None, auth: str = "", browser: bool = True, **more: Any
) -> serve.Served:
    """Serve the page until Ctrl-C; `more` and errors are those of `serve.launch`."""

    def look() -> dict[str, Any]:
        from tlapp.ui import app

        return app.look()

    return serve.launch(build_app, host, port, auth, browser, look=look, on_close=jobs.close, **more)


__all__ = ["build_app", "launch"]
