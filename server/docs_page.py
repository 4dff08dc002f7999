"""The page at /docs: Swagger UI with its assets served by this process, so that it works without internet
and loads no code from strangers. The assets travel in the package fastapi-offline.
"""

from importlib import resources
from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

PATH, ASSETS = "/docs", "/docs/assets"


def add_docs_page(app: FastAPI) -> None:
    """Serve the page and its assets; ``app`` has been made with ``docs_url=None``."""
    app.mount(ASSETS, StaticFiles(directory=Path(str(resources.files("fastapi_offline") / "static"))))

    @app.get(PATH, include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=app.title,
            swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{ASSETS}/favicon.png",
        )
