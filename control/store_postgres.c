#include "control/store.h"

#include <errno.h>
#include <stdio.h>

int store_postgres_open(const char *url, struct store **ret_store, char ret_error[STORE_ERROR_BYTES])
{
	(void)url;
	(void)ret_store;
	snprintf(ret_error, STORE_ERROR_BYTES, "PostgreSQL is not supported yet");
	return -ENOTSUP;
}
