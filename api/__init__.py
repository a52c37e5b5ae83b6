"""HTTP and nothing else: routes, requests and answers, authentication, errors."""
