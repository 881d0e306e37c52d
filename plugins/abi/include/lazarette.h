/* The C ABI between Lazarette's plugin host and a storage plugin, version 1.

   Generated from plugins/abi/src/lib.rs by cargo xtask header: do not edit. The rules that both
   sides keep to are in docs/plugin-abi.md.

   SPDX-License-Identifier: Apache-2.0 */


#ifndef LAZARETTE_H
#define LAZARETTE_H

#include <stddef.h>
#include <stdint.h>

/* The first eight bytes of a descriptor. */
#define LAZ_MAGIC "LAZARETT"

/* An open context: the plugin's own, known to the host by its address only. */
typedef struct laz_instance laz_instance;

/*
 The major version of this ABI.
 */
#define LAZ_MAJOR 1

/*
 The minor version of this ABI.
 */
#define LAZ_MINOR 1

/*
 Status: the reply is the value.
 */
#define LAZ_OK 0

/*
 Status: the reply is an error.
 */
#define LAZ_ERROR 1

/*
 Status: the plugin panicked; the reply is an error and the instance must not be called again.
 */
#define LAZ_PANICKED 2

/*
 Log level of laz_host_table.log: something failed.
 */
#define LAZ_LOG_ERROR 1

/*
 Log level: something is odd.
 */
#define LAZ_LOG_WARN 2

/*
 Log level: something happened.
 */
#define LAZ_LOG_INFO 3

/*
 Log level: detail for whoever looks for a fault.
 */
#define LAZ_LOG_DEBUG 4

/*
 Bytes of the descriptor of version 1.0: the least a plugin has.
 */
#define LAZ_SMALLEST_DESCRIPTOR 88

/*
 The first 16 bytes of a descriptor, frozen for all versions.
 */
typedef struct laz_header {
  /*
   LAZ_MAGIC.
   */
  uint8_t magic[8];
  /*
   LAZ_MAJOR.
   */
  uint16_t major;
  /*
   LAZ_MINOR.
   */
  uint16_t minor;
  /*
   Bytes of the whole descriptor.
   */
  uint32_t size;
} laz_header;

/*
 Bytes that belong to somebody else: valid while the function they are passed to runs.
 */
typedef struct laz_bytes {
  /*
   The first byte; may be null if len is 0.
   */
  const uint8_t *data;
  /*
   How many bytes.
   */
  size_t len;
} laz_bytes;

/*
 Bytes that the plugin made and laz_descriptor.free frees.
 */
typedef struct laz_buffer {
  /*
   The first byte; null if there is nothing to free.
   */
  uint8_t *data;
  /*
   How many bytes.
   */
  size_t len;
  /*
   For the plugin's own use, handed back unchanged.
   */
  size_t capacity;
} laz_buffer;

/*
 Writes the manifest (JSON) into out, or an error.
 */
typedef int32_t (*laz_describe_fn)(struct laz_buffer *out);

/*
 Writes a line to the context's log: data of the table, level, text without a newline.
 */
typedef void (*laz_log_fn)(void *data, uint32_t level, struct laz_bytes text);

/*
 Says how far a call is: share between 0 and 1, or NaN if unknown.
 */
typedef void (*laz_progress_fn)(void *data, uint64_t call, struct laz_bytes text, float share);

/*
 Non-zero if nobody wants the call's reply any more.
 */
typedef uint32_t (*laz_cancelled_fn)(void *data, uint64_t call);

/*
 The context's health has changed: core should ask for it now.
 */
typedef void (*laz_changed_fn)(void *data);

/*
 What the plugin may call. Valid for the life of the process, from any thread.
 */
typedef struct laz_host_table {
  /*
   Bytes of this structure.
   */
  uint32_t size;
  /*
   LAZ_MAJOR.
   */
  uint16_t major;
  /*
   LAZ_MINOR.
   */
  uint16_t minor;
  /*
   The first argument of the functions below.
   */
  void *data;
  /*
   The directory below which the plugin mounts.
   */
  struct laz_bytes mounts;
  /*
   Logs.
   */
  laz_log_fn log;
  /*
   Reports progress.
   */
  laz_progress_fn progress;
  /*
   Asks for cancellation.
   */
  laz_cancelled_fn cancelled;
  /*
   Says that the context's health has changed. Since version 1.1: look at size first.
   */
  laz_changed_fn changed;
} laz_host_table;

/*
 Opens a context with the options config (JSON). On LAZ_OK, instance is set.
 */
typedef int32_t (*laz_create_fn)(const struct laz_host_table *host,
                                 struct laz_bytes config,
                                 laz_instance **instance,
                                 struct laz_buffer *out);

/*
 What the host says about a call.
 */
typedef struct laz_call_info {
  /*
   Bytes of this structure.
   */
  uint32_t size;
  /*
   Zero.
   */
  uint32_t reserved;
  /*
   The call, for laz_host_table.progress and laz_host_table.cancelled.
   */
  uint64_t id;
  /*
   Milliseconds from now after which nobody waits for the reply.
   */
  uint64_t deadline_ms;
} laz_call_info;

/*
 Runs method with the parameters request (JSON; empty for none).
 */
typedef int32_t (*laz_call_fn)(laz_instance *instance,
                               const struct laz_call_info *call,
                               struct laz_bytes method,
                               struct laz_bytes request,
                               struct laz_buffer *out);

/*
 Frees an instance. Does not close the context: that is a method.
 */
typedef void (*laz_destroy_fn)(laz_instance *instance);

/*
 Frees a buffer that one of the functions above has filled.
 */
typedef void (*laz_free_fn)(struct laz_buffer buffer);

/*
 What a plugin exports as SYMBOL. Must stay unchanged once the library is loaded.
 */
typedef struct laz_descriptor {
  /*
   Who it is.
   */
  struct laz_header header;
  /*
   The kind of storage (nfs).
   */
  struct laz_bytes kind;
  /*
   The plugin's version.
   */
  struct laz_bytes version;
  /*
   Describes the plugin; needs no context.
   */
  laz_describe_fn describe;
  /*
   Opens a context.
   */
  laz_create_fn create;
  /*
   Calls a method of it.
   */
  laz_call_fn call;
  /*
   Frees it.
   */
  laz_destroy_fn destroy;
  /*
   Frees a reply.
   */
  laz_free_fn free;
  /*
   Writes a list of the storage that no context has (JSON) into out, or an error; needs no
   context; null if the plugin cannot. Since version 1.1.
   */
  int32_t (*scan)(struct laz_buffer *out);
} laz_descriptor;

#endif  /* LAZARETTE_H */

/* The one symbol that a plugin exports. It must stay unchanged once the library is loaded. */
#ifdef __cplusplus
extern "C"
#endif
extern const laz_descriptor LAZARETTE_PLUGIN_V1;
