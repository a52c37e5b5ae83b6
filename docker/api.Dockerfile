# The API, the migrations and the keeper's base: no torch, about a thirtieth of the worker's size.
FROM python:3.11-slim-bookworm AS build
WORKDIR /stillhouse
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY kdcore/__init__.py kdcore/__init__.py
COPY stillhouse/__init__.py stillhouse/__init__.py
# What the extras ask for, at the versions of the lock; `worker` is for the keeper. The project itself
# is copied below, so that a change of ours does not install everything again.
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --constraint requirements.lock ".[api,worker]" \
 && /venv/bin/pip uninstall --yes stillhouse

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home /stillhouse stillhouse
WORKDIR /stillhouse
COPY --from=build /venv /venv
COPY api api
COPY dashboard dashboard
COPY kdcore/__init__.py kdcore/__init__.py
COPY kdcore/spec kdcore/spec
COPY migrations migrations
COPY store store
COPY worker worker
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONPATH=/stillhouse
USER stillhouse
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
  CMD ["python", "-c", "import httpx; httpx.get('http://127.0.0.1:8000/readyz', timeout=4).raise_for_status()"]
CMD ["python", "-m", "api", "--host", "0.0.0.0", "--port", "8000"]
