"""``POST /v1/models/{id}/predict``: what a model says of images. It changes nothing of the user's,
so that the scope to read is enough."""

from fastapi import APIRouter, Request
from starlette.responses import Response
from typing_extensions import override

from api.http.auth import Reader
from api.http.responses import reply
from api.http.routing import V1Route
from api.models.onnx_export import require, served
from api.predictions import parsing
from api.predictions.runner import crowd
from api.predictions.runner import predict as answered
from api.predictions.schemas import BODY, PredictionOut
from store.settings import settings


class ImagesRoute(V1Route):
    """A route whose body may hold images."""

    @override
    def body_limit(self) -> int:
        return settings().max_predict_bytes


predicting = APIRouter(route_class=ImagesRoute)


@predicting.post(
    "/{model_id}/predict", response_model=PredictionOut, openapi_extra={"requestBody": BODY}
)
async def predict(model_id: str, request: Request, caller: Reader) -> Response:
    """The likeliest classes of each image, decoded and normalised as the model's own images were.

    The first time, the model is converted to ONNX: that takes some seconds, and a 503 `preparing`
    asks to try again. An image that cannot be read has an `error` in its place.
    """
    await require(model_id, caller)
    async with crowd().inside(caller.project_id):
        asked = await parsing.asked(request)
        model = await served(model_id, caller)
        found = await answered(model, asked.images, asked.k)
    return reply({"object": "prediction", "model": model_id, "data": found.data, "ms": found.ms})
