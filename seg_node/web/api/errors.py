"""Errors as clients see them: one JSON form, with what is wrong and what to do, and never a path of the server."""

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

log = logging.getLogger(__name__)


class ApiError(Exception):
    """A request that cannot be answered.

    Args:
        status: of HTTP.
        code: for programs; also the label of the ``rejected`` metric.
        message: for people.
        retry_after: seconds after which it is worth another try.
    """

    def __init__(self, status: int, code: str, message: str, retry_after: int | None = None):
        super().__init__(message)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after

    def body(self) -> dict[str, str]:
        """Code and message for an answer."""
        return {"code": self.code, "message": self.message}


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error of an app in the same form."""
    app.add_exception_handler(ApiError, answer_error)
    app.add_exception_handler(RequestValidationError, _bad_query)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _unforeseen)


def answer_error(request: Request, error: ApiError) -> JSONResponse:
    """The answer to a request that cannot be answered."""
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after is not None else None
    request.state.rejected = error.code
    body = {"error": error.body() | {"request_id": request.state.request_id}}
    return JSONResponse(body, error.status, headers)


def _bad_query(request: Request, error: RequestValidationError) -> JSONResponse:
    problems = [f"{'.'.join(str(part) for part in e['loc'][1:])}: {e['msg']}" for e in error.errors()]
    return answer_error(request, ApiError(422, "bad_query", "; ".join(problems) + "; /docs lists the parameters"))


def _http_error(request: Request, error: HTTPException) -> JSONResponse:
    code = HTTPStatus(error.status_code).name.lower()
    answer = answer_error(request, ApiError(error.status_code, code, f"{error.detail}; /docs lists what there is"))
    answer.headers.update(error.headers or {})
    return answer


def _gone(request: Request, error: ClientDisconnect) -> Response:
    request.state.rejected = "client_gone"
    return Response(status_code=400)


def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    # The traceback follows in the log, from uvicorn.
    log.error("%s failed: %r", request.state.request_id, error)
    message = "the server failed on this request; its log has the reason under the request's id"
    return answer_error(request, ApiError(500, "internal", message))
