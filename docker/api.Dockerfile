# The API, migrations and maintenance: without torch, a small part of the worker's size.
FROM python:3.11-slim-bookworm AS build
WORKDIR /stillhouse
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY kdcore/__init__.py kdcore/__init__.py
COPY stillhouse/__init__.py stillhouse/__init__.py
# The dependencies of the extras, at the versions of the lock; `worker` is for maintenance. The project
# is copied below, so that a change of its code does not install the dependencies again.
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --constraint requirements.lock ".[api,worker]" \
 && /venv/bin/pip uninstall --yes stillhouse

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home /stillhouse stillhouse \
 && mkdir -p /var/lib/stillhouse/work && chown -R stillhouse /var/lib/stillhouse
WORKDIR /stillhouse
COPY --from=build /venv /venv
COPY api api
COPY dashboard dashboard
# Of the engine: schema and protocol, and the process of a prediction.
COPY kdcore/__init__.py kdcore/__init__.py
COPY kdcore/__main__.py kdcore/__main__.py
COPY kdcore/data/__init__.py kdcore/data/__init__.py
COPY kdcore/data/decode.py kdcore/data/decode.py
COPY kdcore/data/image_signature.py kdcore/data/image_signature.py
COPY kdcore/protocol kdcore/protocol
COPY kdcore/runtime/__init__.py kdcore/runtime/__init__.py
COPY kdcore/runtime/failpoints.py kdcore/runtime/failpoints.py
COPY kdcore/runtime/limits.py kdcore/runtime/limits.py
COPY kdcore/serving kdcore/serving
COPY kdcore/schema kdcore/schema
COPY migrations migrations
COPY store store
COPY worker worker
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONPATH=/stillhouse
USER stillhouse
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
  CMD ["python", "-c", "import httpx; httpx.get('http://127.0.0.1:8000/readyz', timeout=4).raise_for_status()"]
CMD ["python", "-m", "api", "--host", "0.0.0.0", "--port", "8000"]
