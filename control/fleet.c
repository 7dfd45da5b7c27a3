#include "control/fleet.h"

#include "core/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool is_ours(const struct fleet *f, const struct sandbox *b)
{
	return f->driver && strcmp(b->driver, f->driver_name) == 0;
}

/* The first `size - 1` bytes that are text, whole characters only. */
static void text_cut(const char *text, char *ret_text, size_t size)
{
	size_t n = strnlen(text, size);

	if (n == size)
		for (n = size - 1; n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80;)
			n--;
	memcpy(ret_text, text, n);
	ret_text[n] = 0;
}

/* --- reports --- */

static int report_store(struct fleet *f, const struct driver_report *r)
{
	struct sandbox b = {.state = r->state};

	if (!bytes_copy_str(bytes_str(r->sandbox), b.id, sizeof(b.id)) ||
	    (r->procd_url && !bytes_copy_str(bytes_str(r->procd_url), b.procd_url, sizeof(b.procd_url))) ||
	    (r->procd_key && !bytes_copy_str(bytes_str(r->procd_key), b.procd_key, sizeof(b.procd_key))))
		return -EINVAL;
	if (r->reason)
		text_cut(r->reason, b.reason, sizeof(b.reason));
	return reports_take(&f->reports, &b);
}

void fleet_report(void *ctx, const struct driver_report *r)
{
	int rc = report_store(ctx, r);

	log_event(rc < 0 || r->reason ? LOG_WARN : LOG_INFO, "sandbox", LOG_STR("sandbox", r->sandbox),
		  LOG_STR("state", sandbox_state_name(r->state)), LOG_STR("reason", r->reason ? r->reason : ""),
		  LOG_STR("stored", rc > 0    ? "yes"
				    : rc == 0 ? "nothing new"
					      : strerror(-rc)));
}

/* --- what the driver is asked for --- */

static int on_restore(void *ctx, const struct sandbox *b)
{
	struct fleet *f = ctx;
	int rc;

	if (!is_ours(f, b))
		return 0;
	rc = f->driver->ops->restore(f->driver, b->id, b->state);
	if (rc < 0)
		log_event(LOG_ERROR, "restore", LOG_STR("sandbox", b->id), LOG_STR("error", strerror(-rc)));
	return 0;
}

void fleet_init(struct fleet *f, struct store_pool *pool, struct feed *feed)
{
	f->pool = pool;
	f->feed = feed;
	reports_init(&f->reports, pool, feed);
}

int fleet_start(struct fleet *f)
{
	struct store *s;
	int rc;

	if (!f->driver)
		return 0;
	rc = reports_start(&f->reports);
	if (rc < 0)
		return rc;
	f->is_started = true;
	s = store_take(f->pool);
	if (!s)
		return -EIO;
	rc = sandbox_list(s, NULL, on_restore, f);
	store_give(f->pool, s);
	return rc < 0 ? rc : 0;
}

void fleet_stop(struct fleet *f)
{
	if (!f->driver)
		return;
	f->driver->ops->free(f->driver);
	f->driver = NULL;
	reports_stop(&f->reports, f->is_started);
}

int fleet_create(struct fleet *f, struct store *s, struct sandbox *b)
{
	int rc;

	if (!f->driver)
		return -ENOTSUP;
	snprintf(b->driver, sizeof(b->driver), "%s", f->driver_name);
	b->state = SANDBOX_RESUMING;
	reports_forget(&f->reports, b->id);
	rc = sandbox_add(s, b);
	if (rc < 0)
		return rc;
	rc = f->driver->ops->create(f->driver, b->id);
	if (rc < 0)
		(void)!sandbox_remove(s, b->id);
	log_event(rc < 0 ? LOG_WARN : LOG_INFO, "create", LOG_STR("sandbox", b->id), LOG_STR("team", b->team),
		  LOG_STR("result", rc < 0 ? strerror(-rc) : "begun"));
	feed_kick(f->feed);
	return rc;
}

/* It could not even begin: as it was, with the reason, and not tried again for a while. */
static void resume_failed(struct fleet *f, const struct sandbox *b, int error)
{
	char reason[REASON_MAX + 1];
	struct driver_report r = {.sandbox = b->id, .state = b->state, .reason = reason};

	snprintf(reason, sizeof(reason), "%s", strerror(-error));
	fleet_report(f, &r);
}

int fleet_resume(struct fleet *f, struct store *s, const struct sandbox *b, const char *user)
{
	int rc;

	if (!is_ours(f, b))
		return -ENOTSUP;
	ASSERT(b->state == SANDBOX_PAUSED || b->state == SANDBOX_STOPPED);
	/* One of all who see it so moves it, on whatever server: that one asks. */
	rc = sandbox_move(s, b->id, b->state, SANDBOX_RESUMING);
	if (rc <= 0)
		return rc;
	feed_kick(f->feed);
	rc = f->driver->ops->resume(f->driver, b->id);
	log_event(rc < 0 ? LOG_WARN : LOG_INFO, "resume", LOG_STR("sandbox", b->id), LOG_STR("user", user),
		  LOG_STR("result", rc < 0 ? strerror(-rc) : "asked for"));
	if (rc < 0)
		resume_failed(f, b, rc);
	return rc < 0 ? rc : 1;
}

int fleet_pause(struct fleet *f, struct store *s, const struct sandbox *b)
{
	int rc;

	if (!is_ours(f, b))
		return -ENOTSUP;
	/* What went wrong before is forgotten: a reason that is there later belongs to this pause. */
	rc = sandbox_move(s, b->id, SANDBOX_RUNNING, SANDBOX_RUNNING);
	if (rc <= 0)
		return rc < 0 ? rc : -EBUSY;
	rc = f->driver->ops->pause(f->driver, b->id);
	log_event(rc < 0 ? LOG_WARN : LOG_INFO, "pause", LOG_STR("sandbox", b->id),
		  LOG_STR("result", rc < 0 ? strerror(-rc) : "asked for"));
	return rc;
}

int fleet_remove(struct fleet *f, struct store *s, const struct sandbox *b)
{
	int rc;

	if (!is_ours(f, b) && strcmp(b->driver, DRIVER_STATIC) != 0)
		return -ENOTSUP;
	rc = sandbox_remove(s, b->id);
	if (rc < 0)
		return rc;
	feed_kick(f->feed);
	if (is_ours(f, b))
		rc = f->driver->ops->remove(f->driver, b->id);
	log_event(rc < 0 ? LOG_ERROR : LOG_INFO, "remove", LOG_STR("sandbox", b->id),
		  LOG_STR("result", rc < 0 ? strerror(-rc) : "done"));
	return 0;
}
