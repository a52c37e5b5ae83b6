"""Predictions: the most likely classes of images. The scope ``jobs:read`` suffices."""

from fastapi import Request
from starlette.responses import Response
from typing_extensions import override

from api.http.auth import JobReader
from api.http.responses import json_response
from api.http.routing import V1Route, v1_router
from api.models.onnx_export import load_servable, require_servable
from api.predictions import parsing
from api.predictions.runner import predict as run_prediction
from api.predictions.runner import prediction_limiter
from api.predictions.schemas import REQUEST_BODY, PredictionOut
from store.settings import settings


class ImagesRoute(V1Route):
    """A route whose body may contain images."""

    @override
    def body_limit(self) -> int:
        return settings().max_predict_bytes


router = v1_router("/models/{model_id}/predict", "models", ImagesRoute)


@router.post("", response_model=PredictionOut, openapi_extra={"requestBody": REQUEST_BODY})
async def predict(model_id: str, request: Request, caller: JobReader) -> Response:
    """Get the most likely classes of each image, decoded and normalized as in training.

    Before the first prediction, a worker exports the model to ONNX. If that takes longer than a few
    seconds, the response is a 503 `preparing`. An unreadable image gets an `error` in its place.
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
