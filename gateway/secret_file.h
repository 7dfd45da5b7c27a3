/*
 * gateway/secret_file.h - a file with 32 secret bytes that gateways share, written by `openssl rand -base64 32` or in hex.
 *
 * Thread: any.
 */
#ifndef GATEWAY_SECRET_FILE_H
#define GATEWAY_SECRET_FILE_H

#include "core/check.h"

#include <stdint.h>

#define SECRET_FILE_BYTES 32

/* 0, or negative errno with a sentence; -EACCES where others than its owner may read it. */
MUST_USE int secret_file_load(const char *path, uint8_t ret_secret[SECRET_FILE_BYTES], char ret_error[256]);

#endif
