/* A storage plugin in C: volumes of the kind `scratch` are file systems in memory, gone when they
   are unmounted.

   Build: cc -shared -fPIC -O2 -Wall -I ../../abi/include -o scratch.so scratch.c
   Look:  laz-plugin-host describe ./scratch.so */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lazarette.h"

#define TEXT(literal) (const uint8_t *)(literal), sizeof(literal) - 1

static const char MANIFEST[] =
    "{\"kind\": \"scratch\", \"version\": \"1.0.0\","
    " \"context_schema\": {\"type\": \"object\", \"additionalProperties\": false},"
    " \"volume_schema\": {\"type\": \"object\", \"additionalProperties\": false,"
    "   \"required\": [\"size\"], \"properties\": {\"size\":"
    "   {\"type\": \"string\", \"pattern\": \"^[1-9][0-9]{0,9}[KMG]?$\","
    "    \"description\": \"How much it holds at most: bytes, or with K, M or G.\"}}},"
    " \"capabilities\": [\"create\", \"size\"],"
    " \"privileges\": {\"capabilities\": [\"SYS_ADMIN\"], \"writable\": [\"/mnt\"]}}";

struct laz_instance {
  const laz_host_table *host;
};

/* A reply is made with malloc and freed by free_reply: whoever makes a buffer frees it. */
static int32_t reply(laz_buffer *out, int32_t status, const char *json) {
  out->len = strlen(json);
  out->capacity = out->len;
  out->data = malloc(out->len + 1);
  if (!out->data) {
    out->len = 0;
    return LAZ_ERROR;
  }
  memcpy(out->data, json, out->len + 1);
  return status;
}

/* An error as JSON. `what` must not need escaping; strerror's texts don't. */
static int32_t fail(laz_buffer *out, const char *kind, const char *what, const char *why) {
  char json[512];
  snprintf(json, sizeof json, "{\"kind\": \"%s\", \"message\": \"%s\", \"cause\": \"%s\"}", kind,
           what, why);
  return reply(out, LAZ_ERROR, json);
}

static int32_t describe(laz_buffer *out) { return reply(out, LAZ_OK, MANIFEST); }

static int32_t create(const laz_host_table *host, laz_bytes config, laz_instance **instance,
                      laz_buffer *out) {
  (void)config; /* It has the schema's shape, which is empty. */
  *instance = malloc(sizeof **instance);
  if (!*instance)
    return fail(out, "internal", "the context cannot be opened", strerror(errno));
  (*instance)->host = host;
  laz_bytes line = {TEXT("scratch volumes are gone when they are unmounted")};
  host->log(host->data, LAZ_LOG_INFO, line);
  return LAZ_OK;
}

/* The text of the first member `name` of the request, if it is made of `allowed` only: enough for
   what core sends, which is compact JSON. A plugin with richer options links a JSON library. */
static int member(laz_bytes request, const char *name, const char *allowed, char *text, size_t size) {
  char key[32];
  int length = snprintf(key, sizeof key, "\"%s\":\"", name);
  const char *found = memmem(request.data, request.len, key, (size_t)length);
  if (!found)
    return 0;
  found += length;
  size_t left = request.len - (size_t)(found - (const char *)request.data), at = 0;
  while (at < left && found[at] != '"' && strchr(allowed, found[at]))
    at++;
  if (at == 0 || at == left || found[at] != '"' || at >= size)
    return 0;
  memcpy(text, found, at);
  text[at] = '\0';
  return 1;
}

/* Where the request's volume is mounted. */
static int place(const laz_instance *self, laz_bytes request, char *path, size_t size) {
  char id[37];
  if (!member(request, "id", "0123456789abcdef-", id, sizeof id))
    return 0;
  int length = snprintf(path, size, "%.*s/%s", (int)self->host->mounts.len,
                        (const char *)self->host->mounts.data, id);
  return length > 0 && (size_t)length < size;
}

static int is_mounted(const char *path) {
  struct statx facts;
  return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, 0, &facts) == 0 &&
         (facts.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

/* Core repeats every call after a crash: what is there already is a success, and is said. */
static int32_t do_create(const char *path, laz_buffer *out) {
  if (mkdir(path, 0700) == 0)
    return reply(out, LAZ_OK, "\"created\"");
  if (errno == EEXIST)
    return reply(out, LAZ_OK, "\"already_exists\"");
  return fail(out, "internal", "its directory cannot be made", strerror(errno));
}

static int32_t do_mount(const char *path, laz_bytes request, laz_buffer *out) {
  char size[16], options[64], json[640];
  if (!member(request, "size", "0123456789KMG", size, sizeof size))
    return fail(out, "invalid_argument", "the volume has no size", "set size: 64M");
  snprintf(options, sizeof options, "mode=0755,size=%s", size);
  if (!is_mounted(path) && mount("scratch", path, "tmpfs", MS_NOSUID | MS_NODEV, options) != 0)
    return fail(out, errno == ENOENT ? "not_found" : "internal", "it cannot be mounted",
                strerror(errno));
  snprintf(json, sizeof json, "{\"path\": \"%s\", \"fs_type\": \"tmpfs\", \"source\": \"scratch\"}",
           path);
  return reply(out, LAZ_OK, json);
}

static int32_t do_unmount(const char *path, laz_buffer *out) {
  if (!is_mounted(path) || umount2(path, UMOUNT_NOFOLLOW) == 0)
    return LAZ_OK;
  return fail(out, errno == EBUSY ? "busy" : "internal", "it cannot be unmounted", strerror(errno));
}

static int32_t do_remove(const char *path, laz_buffer *out) {
  int32_t status = do_unmount(path, out);
  if (status != LAZ_OK)
    return status;
  if (rmdir(path) == 0)
    return reply(out, LAZ_OK, "\"removed\"");
  if (errno == ENOENT)
    return reply(out, LAZ_OK, "\"already_absent\"");
  return fail(out, "internal", "its directory cannot be removed", strerror(errno));
}

static int is(laz_bytes method, const char *name) {
  return method.len == strlen(name) && memcmp(method.data, name, method.len) == 0;
}

/* Called by many threads at once: nothing here is shared but what never changes. */
static int32_t call(laz_instance *self, const laz_call_info *info, laz_bytes method,
                    laz_bytes request, laz_buffer *out) {
  (void)info;
  char path[512];
  if (is(method, "health"))
    return reply(out, LAZ_OK, "{\"state\": \"healthy\"}");
  if (is(method, "list"))
    return reply(out, LAZ_OK, "[]");
  if (is(method, "close"))
    return LAZ_OK;
  if (!is(method, "create") && !is(method, "remove") && !is(method, "mount") &&
      !is(method, "unmount"))
    return fail(out, "unsupported", "scratch volumes cannot do that",
                "use a kind that has the capability: laz kinds");
  if (!place(self, request, path, sizeof path))
    return fail(out, "invalid_argument", "the request names no volume", "its id is missing");
  if (is(method, "mount"))
    return do_mount(path, request, out);
  if (is(method, "create"))
    return do_create(path, out);
  return is(method, "remove") ? do_remove(path, out) : do_unmount(path, out);
}

static void destroy(laz_instance *self) { free(self); }

static void free_reply(laz_buffer buffer) { free(buffer.data); }

const laz_descriptor LAZARETTE_PLUGIN_V1 = {
    .header = {LAZ_MAGIC, LAZ_MAJOR, LAZ_MINOR, sizeof(laz_descriptor)},
    .kind = {TEXT("scratch")},
    .version = {TEXT("1.0.0")},
    .describe = describe,
    .create = create,
    .call = call,
    .destroy = destroy,
    .free = free_reply,
};
