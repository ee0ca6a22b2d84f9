defmodule DSPyBridge.Test.Terms do
  @moduledoc "Values as the wire carries them, made at random from a seed."

  @doc "A map of what both JSON and MessagePack carry."
  def map(seed) do
    {map, _state} = map(:rand.seed_s(:exsss, seed), 4)
    map
  end

  defp map(state, depth) do
    {count, state} = count(state, 6)

    {pairs, state} =
      Enum.map_reduce(List.duplicate(depth, count), state, fn depth, state ->
        {key, state} = text(state)
        {value, state} = value(state, depth - 1)
        {{key, value}, state}
      end)

    {Map.new(pairs), state}
  end

  defp value(state, depth) do
    {kind, state} = count(state, if(depth > 0, do: 8, else: 6))

    case kind do
      0 -> {nil, state}
      1 -> count(state, 2) |> then(fn {n, state} -> {n == 0, state} end)
      2 -> integer(state)
      3 -> float(state)
      kind when kind in 4..5 -> text(state)
      6 -> list(state, depth)
      7 -> map(state, depth)
    end
  end

  defp list(state, depth) do
    {count, state} = count(state, 20)
    Enum.map_reduce(List.duplicate(depth - 1, count), state, &value(&2, &1))
  end

  defp integer(state) do
    {bits, state} = count(state, 63)
    {int, state} = :rand.uniform_s(2 ** bits, state)
    {sign, state} = count(state, 2)
    {if(sign == 0, do: int, else: -int), state}
  end

  defp float(state) do
    {float, state} = :rand.uniform_real_s(state)
    {(float - 0.5) * 1.0e6, state}
  end

  @letters ["a", "é", "日", "😀", "\"", "\\", "\n", "\0", " ", "/", "\u2028"]

  defp text(state) do
    {length, state} = count(state, 40)

    {letters, state} =
      Enum.map_reduce(List.duplicate(nil, length), state, fn _, state ->
        {n, state} = count(state, Kernel.length(@letters))
        {Enum.at(@letters, n), state}
      end)

    {Enum.join(letters), state}
  end

  defp count(state, below) do
    {n, state} = :rand.uniform_s(below, state)
    {n - 1, state}
  end
end
