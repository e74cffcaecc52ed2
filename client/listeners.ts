/** Sets of listeners by name. One that throws neither stops the others nor the code that emits. */

type Listener<Value> = (value: Value) => void

/** Listeners of the events that `Events` maps names to. */
export class Listeners<Events> {
  readonly #listenersByName: { [Name in keyof Events]?: Set<Listener<Events[Name]>> } = {}

  /** Adds a listener, once per call. @returns removes it. */
  on<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): () => void {
    const own: Listener<Events[Name]> = (value) => listener(value)
    const listeners = (this.#listenersByName[name] ??= new Set())
    listeners.add(own)
    return () => listeners.delete(own)
  }

  /** Calls the listeners of `name`, in the order they were added. What they throw is reported as uncaught. */
  emit<Name extends keyof Events>(name: Name, value: Events[Name]): void {
    for (const listener of [...(this.#listenersByName[name] ?? [])]) {
      try {
        listener(value)
      } catch (error) {
        queueMicrotask(() => {
          throw error
        })
      }
    }
  }

  /** Removes all listeners. */
  clear(): void {
    for (const name in this.#listenersByName) this.#listenersByName[name]?.clear()
  }
}
