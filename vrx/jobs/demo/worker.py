"""The stage `demo`: the page, served by the process that holds the models."""

from __future__ import annotations

import socket
from pathlib import Path

from vrx.config.errors import UserError
from vrx.config.job_options import required
from vrx.config.schema import RunConfig
from vrx.jobs.compared_models import model_folders
from vrx.jobs.demo import HOST, models_folder, names_file, uploads_folder
from vrx.jobs.demo.answering import Answering
from vrx.jobs.demo.page import keep_gradio_at_home, make_page, serve
from vrx.launch.logging import log
from vrx.launch.ranks import set_ready
from vrx.runs.files import read_json


def demo(run: RunConfig, folder: Path) -> None:
    """Serve the page at `demo.port` until a signal ends this process. Models are loaded when they are asked."""
    options = required(run.demo)
    assert options.port is not None, "the driver has found one"
    keep_gradio_at_home(uploads_folder(folder))
    answering = Answering(read_json(names_file(folder)), model_folders(models_folder(folder)), options)
    app = make_page(answering)
    try:
        listening = socket.create_server((HOST, options.port))
    except OSError as error:
        raise UserError(f"demo.port={options.port}: {error.strerror}; run the command again") from None
    with listening:
        set_ready(folder)
        log(f"{len(answering.names)} models at http://{HOST}:{options.port}; Ctrl-C closes the page")
        serve(app, listening)
