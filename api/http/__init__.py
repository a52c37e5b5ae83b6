"""HTTP itself: authentication, bodies, answers, problems, pages, streams. It knows no resource."""
