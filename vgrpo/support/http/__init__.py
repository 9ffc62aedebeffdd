"""Services of our own over HTTP, and their clients: addresses, the shared token, requests that are not trusted."""
