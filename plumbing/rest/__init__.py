"""HTTP plumbing for every app's API: pages, conditional requests, serializers, formats, OpenAPI markers."""
