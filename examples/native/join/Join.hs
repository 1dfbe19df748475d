-- Signs in, opens a socket, joins a room, says hello, and listens until the socket is closed.
--
--     cabal install --lib websockets aeson http-conduit
--     USHER_PASSWORD=… runghc Join.hs http://127.0.0.1:8888 ada@example.org channel:ID
--
-- Debian: libghc-websockets-dev libghc-aeson-dev libghc-http-conduit-dev. It speaks http only; for https take
-- Wuss.runSecureClientWith of the package wuss.
{-# LANGUAGE OverloadedStrings #-}

import Control.Exception (try)
import Data.Aeson
import Data.Aeson.Types (parseEither, Parser)
import qualified Data.ByteString.Char8 as B
import qualified Data.ByteString.Lazy.Char8 as L
import Data.Text (Text)
import qualified Data.Text as T
import qualified Data.Text.IO as T
import Network.HTTP.Simple
import qualified Network.WebSockets as WS
import System.Environment (getArgs, getEnv)
import System.IO

main :: IO ()
main = do
  hSetBuffering stdout LineBuffering
  [server, email, room] <- getArgs
  token <- signIn server email
  let (host, port) = break (== ':') (drop 2 (dropWhile (/= '/') server))
      headers = [("Authorization", B.pack ("Bearer " ++ T.unpack token))]
  WS.runClientWith host (if null port then 80 else read (tail port)) "/ws" WS.defaultConnectionOptions headers
    (talk (T.pack room))

-- | The access token. A real app keeps the refresh token too, and renews with it.
signIn :: String -> String -> IO Text
signIn server email = do
  password <- getEnv "USHER_PASSWORD"
  request <- parseRequest ("POST " ++ server ++ "/api/auth/login")
  let body = object ["email" .= email, "password" .= password, "client" .= ("native" :: Text)]
  answer <- httpLBS (setRequestBodyJSON body request)
  let signedIn = withObject "answer" $ \o -> (,) <$> (o .: "user" >>= (.: "name")) <*> o .: "access_token"
  case eitherDecode (getResponseBody answer) >>= parseEither signedIn of
    Left _ -> fail (L.unpack (getResponseBody answer))
    Right (name, token) -> T.putStrLn ("signed in as " <> name) >> return token

talk :: Text -> WS.Connection -> IO ()
talk room socket = do
  got <- try (WS.receiveData socket)
  case got of
    Left (WS.CloseRequest code reason) -> putStrLn ("closed " ++ show code ++ " " ++ L.unpack reason)
    Left other -> hPutStrLn stderr (show other)
    Right text -> do
      either fail (mapM_ (WS.sendTextData socket . encode)) =<< traverse id (eitherDecode text >>= parseEither (answer room))
      talk room socket

-- | What to print and to send on a frame of the server.
answer :: Text -> Value -> Parser (IO (Maybe Value))
answer room = withObject "frame" $ \frame -> do
  event <- frame .: "event"
  case event :: Text of
    "joined" -> send "" "join" 1 []
    "reply" -> do
      ok <- frame .: "ok"
      number <- frame .: "id"
      if not ok
        then frame .: "error" >>= (.: "code") >>= say . ("refused " <>)
        else if number == (1 :: Int)
          then send ("joined " <> room) "message" 2 ["data" .= ("hello" :: Text)]
          else nothing
    "message" -> frame .: "data" >>= (.: "data") >>= say . ("received " <>)
    "closing" -> do
      end <- frame .: "data"
      code <- end .: "code"
      reason <- end .: "reason"
      retry <- end .: "retry"
      say ("closing " <> T.pack (show (code :: Int)) <> " " <> reason <> ", retry: " <> retry)
    _ -> nothing
 where
  nothing = return (return Nothing)
  say line = return (Nothing <$ T.putStrLn line)
  send line event number more = return $ do
    if T.null line then return () else T.putStrLn line
    return (Just (object ["event" .= (event :: Text), "id" .= (number :: Int), "data" .= object (("room" .= room) : more)]))
