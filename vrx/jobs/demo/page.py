"""The page of `vrx demo`, made with Gradio: what is on it, and the server, which this machine alone reaches.

Texts of models, runs and files are put only where Gradio shows a text as it is: in cells of the kind `str`, in the
labels of boxes to tick, and in text boxes. Its toasts and descriptions would read HTML or Markdown.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from vrx.jobs.compared_models import COLUMNS
from vrx.jobs.demo import HOST
from vrx.jobs.demo.answering import Answering

TITLE = "vrx demo"
SHUTDOWN_SECONDS = 1  # for answers that are still on their way


def keep_gradio_at_home(uploads: Path) -> None:
    """Set the environment before Gradio is imported: no request to any network, no setting from outside.

    uploads: where it stores the files that come by the page.
    """
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(uploads)}


def make_page(answering: Answering) -> Any:
    """The page as an ASGI application, which answers to the names of this machine alone."""
    import fastapi  # pyright: ignore[reportMissingImports]
    import gradio  # pyright: ignore[reportMissingImports]
    from starlette.middleware.trustedhost import TrustedHostMiddleware  # pyright: ignore[reportMissingImports]

    app = fastapi.FastAPI(openapi_url=None)  # its pages of documentation would load scripts from a network
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    blocks = _blocks(gradio, answering)
    return gradio.mount_gradio_app(app, blocks, path="/", footer_links=[], run_history=False, show_error=False)


def _blocks(gradio: Any, answering: Answering) -> Any:
    """What is on the page."""
    numbers = list(range(len(answering.names)))
    with gradio.Blocks(title=TITLE, analytics_enabled=False) as blocks:
        with gradio.Row():
            with gradio.Column():
                picture = gradio.Image(
                    type="filepath", image_mode=None, sources=["upload", "clipboard"], label="Picture (optional)"
                )
                picture.preprocess = _path  # its own opens the file, and fails with a traceback where it is no picture
                question = gradio.Textbox(label="Question", placeholder="What is in the picture?", lines=1, max_lines=4)
                options = gradio.Textbox(
                    label="Options to tell the probability of, one on each line (optional)", lines=2
                )
                ask = gradio.Button("Ask", variant="primary")
            with gradio.Column():
                runs = gradio.CheckboxGroup(
                    choices=[(answering.names[number], number) for number in numbers],
                    value=numbers[: answering.options.keep_models],
                    label="Runs",
                )
        message = gradio.Textbox(label="Message", interactive=False)
        table = gradio.Dataframe(
            headers=list(COLUMNS),
            datatype="str",
            type="array",
            interactive=False,
            wrap=True,
            column_widths=["35%", "20%", "45%"],
            label="Answers",
        )

        def answer(picture: str | None, question: str, ticked: list[int], options: str) -> Any:
            yield from answering.answer(picture, question, ticked, options)

        gradio.on(
            [ask.click, question.submit],
            answer,
            inputs=[picture, question, runs, options],
            outputs=[table, message],
            api_name="answer",
        )
    return blocks


def _path(upload: Any) -> str | None:
    """The file that came by the page, as it is; Gradio has checked that it lies in the folder of uploads."""
    return None if upload is None else str(upload.path)


def serve(app: Any, listening: socket.socket) -> None:
    """Answer requests in this process until a signal ends it."""
    import uvicorn  # pyright: ignore[reportMissingImports]

    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=SHUTDOWN_SECONDS)
    uvicorn.Server(config).run(sockets=[listening])
