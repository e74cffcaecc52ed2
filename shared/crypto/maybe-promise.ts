/**
 * What a crypto backend may return: noble and node:crypto answer at once, WebCrypto with a promise.
 */

/** A value now, or later. Callers `await` it. */
export type MaybePromise<Value> = Value | Promise<Value>
