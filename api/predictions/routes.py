"""``POST /v1/models/{id}/predict``: what a model says of images. It changes nothing of the user's,
so that the scope to read is enough."""

from fastapi import APIRouter, Request
from starlette.responses import Response
from typing_extensions import override

from api.http.auth import JobReader
from api.http.responses import json_response
from api.http.routing import V1Route
from api.models.onnx_export import load_servable, require_servable
from api.predictions import parsing
from api.predictions.runner import predict as run_prediction
from api.predictions.runner import prediction_limiter
from api.predictions.schemas import REQUEST_BODY, PredictionOut
from store.settings import settings


class ImagesRoute(V1Route):
    """A route whose body may hold images."""

    @override
    def body_limit(self) -> int:
        return settings().max_predict_bytes


predict_router = APIRouter(route_class=ImagesRoute)


@predict_router.post(
    "/{model_id}/predict", response_model=PredictionOut, openapi_extra={"requestBody": REQUEST_BODY}
)
async def predict(model_id: str, request: Request, caller: JobReader) -> Response:
    """The likeliest classes of each image, decoded and normalized as the model's own images were.

    The first time, the model is converted to ONNX: that takes some seconds, and a 503 `preparing`
    asks to try again. An image that cannot be read has an `error` in its place.
    """
    await require_servable(model_id, caller)
    async with prediction_limiter().reserve(caller.project_id):
        body = await parsing.parse_predict_request(request)
        model = await load_servable(model_id, caller)
        prediction = await run_prediction(model, body.images, body.k)
    return json_response(
        {
            "object": "prediction",
            "model": model_id,
            "data": prediction.data,
            "duration_ms": prediction.duration_ms,
        }
    )
