/*
 * control/routes.c - which path and method go to which handler.
 */
#include "control/request.h"

#include <stdio.h>
#include <string.h>

static const struct route routes[] = {
	{"GET", "/users/me/ssh-keys", AUTH_USER, handle_key_list},
	{"POST", "/users/me/ssh-keys", AUTH_USER, handle_key_add},
	{"DELETE", "/users/me/ssh-keys/{id}", AUTH_USER, handle_key_remove},
	{"GET", "/api/v1/sandboxes", AUTH_USER, handle_sandbox_list},
	{"POST", "/api/v1/sandboxes", AUTH_USER, handle_sandbox_create},
	{"GET", "/api/v1/sandboxes/{id}", AUTH_USER, handle_sandbox_get},
	{"DELETE", "/api/v1/sandboxes/{id}", AUTH_USER, handle_sandbox_remove},
	{"POST", "/api/v1/sandboxes/{id}/pause", AUTH_USER, handle_sandbox_pause},
	{"POST", "/api/v1/sandboxes/{id}/resume", AUTH_USER, handle_sandbox_resume},
	/* A fingerprint may hold a slash, which not every client encodes. */
	{"GET", "/internal/v1/ssh-keys/{rest}", AUTH_GATEWAY, handle_grants},
	{"GET", "/internal/v1/sandboxes/{id}/ssh-target", AUTH_GATEWAY, handle_target},
	{"GET", "/internal/v1/changes", AUTH_GATEWAY, handle_changes},
	{"GET", "/health", AUTH_NONE, handle_health},
	{"GET", "/openapi.json", AUTH_NONE, handle_openapi},
};

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* RFC 3986's percent encoding. False for a wrong one, a NUL, or what does not fit. */
static bool percent_decode(const char *from, size_t n, char *ret_text, size_t size)
{
	size_t out = 0;

	for (size_t i = 0; i < n; i++) {
		char c = from[i];

		if (c == '%') {
			int high = i + 2 < n ? hex_value(from[i + 1]) : -1;
			int low = i + 2 < n ? hex_value(from[i + 2]) : -1;

			if (high < 0 || low < 0)
				return false;
			c = (char)(high << 4 | low);
			i += 2;
		}
		if (c == 0 || out + 1 >= size)
			return false;
		ret_text[out++] = c;
	}
	ret_text[out] = 0;
	return out > 0;
}

/* The path as it came, still encoded: an encoded slash never parts segments. */
static bool path_matches(const char *pattern, const char *path, char ret_id[PATH_SEGMENT_MAX + 1])
{
	size_t literal = strcspn(pattern, "{"), n;

	if (strncmp(pattern, path, literal) != 0)
		return false;
	pattern += literal;
	path += literal;
	if (!*pattern)
		return !*path;
	n = strncmp(pattern, "{rest}", 6) == 0 ? strlen(path) : strcspn(path, "/");
	if (strcmp(strchr(pattern, '}') + 1, path + n) != 0)
		return false;
	return percent_decode(path, n, ret_id, PATH_SEGMENT_MAX + 1);
}

bool route_find(struct request *r, const char *method, const char *path)
{
	if (strcmp(method, "HEAD") == 0)
		method = "GET";
	for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
		size_t n = strlen(r->allow);

		if (!path_matches(routes[i].path, path, r->id))
			continue;
		if (strcmp(routes[i].method, method) == 0) {
			r->route = &routes[i];
			return true;
		}
		snprintf(r->allow + n, sizeof(r->allow) - n, "%s%s", n ? ", " : "", routes[i].method);
	}
	if (r->allow[0])
		answer_error(r, 405, "method_not_allowed", "this path takes %s", r->allow);
	else
		answer_error(r, 404, "not_found", "there is nothing of that name here");
	return false;
}
