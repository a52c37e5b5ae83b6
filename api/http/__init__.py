"""What all resources share: authentication, bodies, errors, pages, streams, downloads."""
