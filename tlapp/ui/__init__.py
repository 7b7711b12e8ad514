"""The web page, thin over the library.

One file per tab (data, train, results, test); `live` is the run panel of the train tab, `app` puts them together,
`serve` serves them. Importing this package imports neither Gradio nor torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tlapp import decisions, jobs, runs, workspace
from tlapp.cleanup import finish
from tlapp.history import empty_trash
from tlapp.ui import serve

if TYPE_CHECKING:
    import gradio as gr


def build_app(takes_paths: bool = True, is_shared: bool = False) -> gr.Blocks:
    """The page. Torch is imported when the first browser has it before it, so that it comes up at once.

    `takes_paths`: whether a path of this machine may be typed; false where other machines reach the page.
    `is_shared`: whether several people sign in, which the page then says.
    """
    from tlapp.ui import app

    return app.build_app(takes_paths, is_shared)


def launch(
    host: str = "127.0.0.1", port: int | None = None, auth: str = "", browser: bool = True, **more: Any
) -> serve.Served:
    """Serve the page until Ctrl-C; `more` and errors are those of `serve.launch`."""

    def look() -> dict[str, Any]:
        from tlapp.ui import app

        return app.look()

    def build() -> gr.Blocks:
        return build_app(takes_paths=not serve.is_open(host), is_shared=bool(auth))

    home = workspace.home()
    runs.sweep(home)
    finish(home)
    empty_trash(home)
    decisions.sweep(home, runs.datasets_of(home))
    return serve.launch(build, host, port, auth, browser, look=look, on_close=jobs.close, **more)


__all__ = ["build_app", "launch"]
