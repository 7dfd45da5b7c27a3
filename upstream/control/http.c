#include "upstream/control/http_internal.h"

#include "upstream/control/answer.h"
#include "upstream/control/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

/* CURLOPT_QUICK_EXIT: or giving up a call would wait for the resolver. */
#if LIBCURL_VERSION_NUM < 0x075700
#error "libcurl 7.87 or newer is needed"
#endif

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_begun;

static void curl_begin(void)
{
	curl_begun = curl_global_init(CURL_GLOBAL_DEFAULT);
}

__attribute__((format(printf, 3, 4))) static int fail(char *ret_error, int err, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(ret_error, 256, format, ap);
	va_end(ap);
	return err;
}

/* ---- What is there ---- */

static int library_check(char *ret_error)
{
	const curl_version_info_data *v;

	(void)pthread_once(&curl_once, curl_begin);
	if (curl_begun != CURLE_OK)
		return fail(ret_error, -EIO, "libcurl does not start: %s", curl_easy_strerror(curl_begun));
	v = curl_version_info(CURLVERSION_NOW);
	if (v->version_num < 0x075700)
		return fail(ret_error, -ENOTSUP, "libcurl %s is too old; 7.87 or newer is needed", v->version);
	if (!(v->features & CURL_VERSION_ASYNCHDNS))
		return fail(ret_error, -ENOTSUP,
			    "libcurl %s was built without AsynchDNS: it would stand still while it resolves a name",
			    v->version);
	if (!(v->features & CURL_VERSION_SSL))
		return fail(ret_error, -ENOTSUP, "libcurl %s was built without TLS", v->version);
	return 0;
}

static bool url_has(CURLU *u, CURLUPart part)
{
	char *text = NULL;
	bool has = curl_url_get(u, part, &text, 0) == CURLUE_OK;

	curl_free(text);
	return has;
}

static bool url_is_http(CURLU *u)
{
	char *text = NULL;
	bool is = curl_url_get(u, CURLUPART_SCHEME, &text, 0) == CURLUE_OK &&
		  (strcmp(text, "http") == 0 || strcmp(text, "https") == 0);

	curl_free(text);
	return is;
}

int http_url_check(const char *url, char ret_base[CONTROL_URL_MAX], char ret_error[256])
{
	size_t n = strlen(url);
	CURLU *u = curl_url();
	CURLUcode rc;
	int err = 0;

	if (!u)
		return fail(ret_error, -ENOMEM, "out of memory");
	rc = curl_url_set(u, CURLUPART_URL, url, CURLU_DISALLOW_USER);
	if (rc != CURLUE_OK)
		err = fail(ret_error, -EINVAL, "the control plane's URL is none: %s", curl_url_strerror(rc));
	else if (!url_is_http(u))
		err = fail(ret_error, -EINVAL, "the control plane's URL must begin with http:// or https://");
	else if (url_has(u, CURLUPART_QUERY) || url_has(u, CURLUPART_FRAGMENT))
		err = fail(ret_error, -EINVAL, "the control plane's URL must not have a ? or a #");
	else if (n >= CONTROL_URL_MAX)
		err = fail(ret_error, -EINVAL, "the control plane's URL is longer than %d characters",
			   CONTROL_URL_MAX - 1);
	curl_url_cleanup(u);
	if (err)
		return err;
	while (n > 0 && url[n - 1] == '/')
		n--;
	memcpy(ret_base, url, n);
	ret_base[n] = 0;
	return 0;
}

/* A short read is a file that has become shorter meanwhile: then it is what it is. */
static int file_read(int fd, char **ret_text, size_t *ret_bytes)
{
	size_t n = 0;
	struct stat st;
	char *text;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size > CONTROL_CA_FILE_MAX)
		return -EFBIG;
	text = malloc((size_t)st.st_size + 1);
	if (!text)
		return -ENOMEM;
	while (n < (size_t)st.st_size) {
		ssize_t got = read(fd, text + n, (size_t)st.st_size - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		n += (size_t)got;
	}
	text[n] = 0;
	*ret_text = text;
	*ret_bytes = n;
	return 0;
}

/* Read once: a connection's making is no time for it. */
static int ca_load(struct http *h, const char *path, char *ret_error)
{
	int err, fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return fail(ret_error, -errno, "cannot read the CA file %s: %s", path, strerror(errno));
	err = file_read(fd, &h->ca, &h->ca_bytes);
	(void)close(fd);
	if (err)
		return fail(ret_error, err, "cannot read the CA file %s: %s", path, strerror(-err));
	if (!strstr(h->ca, "-----BEGIN CERTIFICATE-----") && !strstr(h->ca, "-----BEGIN TRUSTED CERTIFICATE-----"))
		return fail(ret_error, -EINVAL, "%s holds no PEM certificate", path);
	return 0;
}

/* ---- One get ---- */

static size_t on_body(char *p, size_t size, size_t n, void *ctx)
{
	struct http_get *g = ctx;
	size_t want = g->body_bytes + n;

	if (want > CONTROL_BODY_MAX) {
		g->is_too_large = true;
		return CURL_WRITEFUNC_ERROR;
	}
	if (want > g->memory_bytes) {
		size_t bytes = g->memory_bytes ? g->memory_bytes : 2048;
		uint8_t *memory;

		while (bytes < want)
			bytes *= 2;
		memory = realloc(g->memory, bytes);
		if (!memory)
			return CURL_WRITEFUNC_ERROR;
		g->memory = memory;
		g->memory_bytes = bytes;
	}
	if (n > 0)
		memcpy(g->memory + g->body_bytes, p, n);
	g->body_bytes = want;
	return n;
}

static size_t on_header(char *p, size_t size, size_t n, void *ctx)
{
	struct http_get *g = ctx;

	g->header_bytes += n;
	if (g->header_bytes <= CONTROL_HEADERS_MAX)
		return n;
	g->is_too_large = true;
	return CURL_WRITEFUNC_ERROR;
}

#define SET(easy, option, value)                                              \
	do {                                                                  \
		CURLcode rc = curl_easy_setopt((easy), (option), (value));    \
		if (rc != CURLE_OK)                                           \
			return rc == CURLE_OUT_OF_MEMORY ? -ENOMEM : -EINVAL; \
	} while (0)

static int easy_trust(struct http *h, CURL *easy)
{
	const char *system_file = NULL;

	SET(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (h->ca) {
		struct curl_blob blob = {.data = h->ca, .len = h->ca_bytes, .flags = CURL_BLOB_NOCOPY};

		SET(easy, CURLOPT_CAINFO_BLOB, &blob);
		/* Or the system's authorities would be trusted besides. */
		SET(easy, CURLOPT_CAINFO, NULL);
		SET(easy, CURLOPT_CAPATH, NULL);
		return 0;
	}
	/* The system's file alone: with a folder besides, curl would parse it for each connection anew. */
	if (curl_easy_getinfo(easy, CURLINFO_CAINFO, &system_file) == CURLE_OK && system_file && system_file[0])
		SET(easy, CURLOPT_CAPATH, NULL);
	return 0;
}

/* Nothing of the environment or of a home folder changes where a get goes or what it carries. */
static int easy_confine(CURL *easy)
{
	SET(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	SET(easy, CURLOPT_FOLLOWLOCATION, 0L);
	SET(easy, CURLOPT_PROXY, "");
	SET(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	SET(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(easy, CURLOPT_HTTP09_ALLOWED, 0L);
	SET(easy, CURLOPT_PATH_AS_IS, 1L);
	SET(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	SET(easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)CONTROL_BODY_MAX);
	SET(easy, CURLOPT_USERAGENT, "ringgate/" RINGGATE_VERSION);
	return 0;
}

static int easy_setup(struct http *h, struct http_get *g, CURL *easy)
{
	int err;

	_Static_assert(sizeof(g->error) >= CURL_ERROR_SIZE, "curl writes that much");
	SET(easy, CURLOPT_PRIVATE, g);
	SET(easy, CURLOPT_ERRORBUFFER, g->error);
	SET(easy, CURLOPT_WRITEFUNCTION, on_body);
	SET(easy, CURLOPT_WRITEDATA, g);
	SET(easy, CURLOPT_HEADERFUNCTION, on_header);
	SET(easy, CURLOPT_HEADERDATA, g);
	SET(easy, CURLOPT_NOSIGNAL, 1L);
	SET(easy, CURLOPT_QUICK_EXIT, 1L);
	SET(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	SET(easy, CURLOPT_DNS_CACHE_TIMEOUT, (long)CONTROL_DNS_KEEP_S);
	SET(easy, CURLOPT_MAXAGE_CONN, (long)CONTROL_CONNECTION_REST_S);
	http_sockets_setup(h, easy);
	err = easy_confine(easy);
	return err ? err : easy_trust(h, easy);
}

/* A handle is made once for a get, with all that never changes. */
static int get_equip(struct http *h, struct http_get *g)
{
	int err;

	if (g->easy)
		return 0;
	g->easy = curl_easy_init();
	err = g->easy ? easy_setup(h, g, g->easy) : -ENOMEM;
	if (err) {
		curl_easy_cleanup(g->easy);
		g->easy = NULL;
		/* Every option is one that this libcurl has: what else can fail is memory. */
		return -ENOMEM;
	}
	return 0;
}

static int headers_make(struct http_get *g, const char *const *headers, size_t count)
{
	struct curl_slist *list = NULL;

	for (size_t i = 0; i < count; i++) {
		struct curl_slist *longer = curl_slist_append(list, headers[i]);

		if (!longer) {
			curl_slist_free_all(list);
			return -ENOMEM;
		}
		list = longer;
	}
	curl_slist_free_all(g->headers);
	g->headers = list;
	return 0;
}

static int get_address(struct http *h, struct http_get *g, const char *url, uint32_t timeout_ms)
{
	SET(g->easy, CURLOPT_URL, url);
	SET(g->easy, CURLOPT_HTTPHEADER, g->headers);
	SET(g->easy, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
	SET(g->easy, CURLOPT_CONNECTTIMEOUT_MS,
	    (long)(timeout_ms < h->connect_timeout_ms ? timeout_ms : h->connect_timeout_ms));
	return 0;
}

int http_start(struct http *h, struct http_get *g, const char *url, const char *const *headers, size_t header_count,
	       uint32_t timeout_ms)
{
	ASSERT(!g->http && !h->is_freed);
	if (get_equip(h, g) != 0 || headers_make(g, headers, header_count) != 0 ||
	    get_address(h, g, url, timeout_ms ? timeout_ms : 1) != 0)
		return -ENOMEM;
	g->body_bytes = g->header_bytes = 0;
	g->is_too_large = false;
	g->error[0] = 0;
	if (curl_multi_add_handle(h->multi, g->easy) != CURLM_OK)
		return -ENOMEM;
	g->http = h;
	list_add_tail(&h->gets, &g->node);
	return 0;
}

/* Out of curl's hands, with the handle kept for the next time. */
static void get_detach(struct http_get *g)
{
	(void)curl_multi_remove_handle(g->http->multi, g->easy);
	list_del(&g->node);
	g->http = NULL;
}

void http_stop(struct http_get *g)
{
	if (g->http)
		get_detach(g);
}

void http_get_deinit(struct http_get *g)
{
	http_stop(g);
	curl_easy_cleanup(g->easy);
	curl_slist_free_all(g->headers);
	free(g->memory);
	*g = (struct http_get){0};
}

/* ---- What has ended ---- */

static enum http_end end_of(const struct http_get *g, CURLcode rc)
{
	curl_off_t sent_us = 0;

	switch (rc) {
	case CURLE_OK:
		return HTTP_ANSWERED;
	case CURLE_OPERATION_TIMEDOUT:
		/* Nothing was sent: it is the connection that took too long. */
		(void)curl_easy_getinfo(g->easy, CURLINFO_PRETRANSFER_TIME_T, &sent_us);
		return sent_us > 0 ? HTTP_LATE : HTTP_NO_CONNECTION;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_CONNECT:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_GOT_NOTHING:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_PARTIAL_FILE:
		return HTTP_NO_CONNECTION;
	default:
		return HTTP_BAD_ANSWER;
	}
}

static void get_say_why(struct http_get *g, CURLcode rc)
{
	const char *text = g->error[0] ? g->error : curl_easy_strerror(rc);

	g->why[0] = 0;
	if (g->is_too_large || rc == CURLE_FILESIZE_EXCEEDED)
		text = "the answer is too large";
	if (rc != CURLE_OK)
		answer_printable(bytes_str(text), g->why, sizeof(g->why));
}

static void get_done(struct http_get *g, CURLcode rc)
{
	uint8_t *large = NULL;
	long status = 0;

	(void)curl_easy_getinfo(g->easy, CURLINFO_RESPONSE_CODE, &status);
	g->end = end_of(g, rc);
	g->status = status > 0 && status < 1000 ? (uint32_t)status : 0;
	g->body = bytes_of(g->memory, g->body_bytes);
	get_say_why(g, rc);
	get_detach(g);
	if (g->memory_bytes > CONTROL_BODY_KEEP) {
		large = g->memory;
		g->memory = NULL;
		g->memory_bytes = 0;
	}
	/* g may be gone after this. */
	g->on_done(g);
	free(large);
}

void http_reap(struct http *h)
{
	CURLMsg *m;
	int left;

	while (!h->is_freed && (m = curl_multi_info_read(h->multi, &left))) {
		CURLcode rc = m->data.result;
		struct http_get *g;
		char *ctx = NULL;

		if (m->msg != CURLMSG_DONE)
			continue;
		(void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &ctx);
		g = (struct http_get *)(void *)ctx;
		get_done(g, rc);
	}
}

/* ---- All of it ---- */

static void http_destroy(struct http *h)
{
	free(h->ca);
	free(h);
}

int http_new(struct ring *r, const struct http_options *o, struct http **ret_http, char ret_error[256])
{
	int err = library_check(ret_error);
	struct http *h;

	if (err)
		return err;
	h = calloc(1, sizeof(*h));
	if (!h)
		return fail(ret_error, -ENOMEM, "out of memory");
	err = o->ca_file ? ca_load(h, o->ca_file, ret_error) : 0;
	if (!err) {
		h->multi = curl_multi_init();
		err = h->multi ? 0 : fail(ret_error, -ENOMEM, "out of memory");
	}
	if (err) {
		http_destroy(h);
		return err;
	}
	h->ring = r;
	h->connect_timeout_ms = o->connect_timeout_ms;
	h->on_freed = o->on_freed;
	h->owner = o->owner;
	list_init(&h->gets);
	http_sockets_init(h);
	(void)curl_multi_setopt(h->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)o->connection_count);
	(void)curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)o->rest_count);
	(void)curl_multi_setopt(h->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
	*ret_http = h;
	return 0;
}

void http_settle(struct http *h)
{
	void (*on_freed)(void *) = h->on_freed;
	void *owner = h->owner;

	if (!h->is_freed || h->depth > 0 || !list_is_empty(&h->sockets))
		return;
	http_destroy(h);
	if (on_freed)
		on_freed(owner);
}

void http_free(struct http *h)
{
	if (!h)
		return;
	ASSERT(!h->is_freed);
	while (!list_is_empty(&h->gets))
		get_detach(CONTAINER_OF(h->gets.next, struct http_get, node));
	h->is_freed = true;
	(void)curl_multi_cleanup(h->multi);
	h->multi = NULL;
	http_sockets_stop(h);
	http_settle(h);
}
