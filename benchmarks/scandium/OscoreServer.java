import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.util.Arrays;
import org.eclipse.californium.core.CoapServer;
import org.eclipse.californium.core.config.CoapConfig;
import org.eclipse.californium.core.network.CoapEndpoint;
import org.eclipse.californium.cose.AlgorithmID;
import org.eclipse.californium.elements.config.Configuration;
import org.eclipse.californium.elements.config.UdpConfig;
import org.eclipse.californium.oscore.HashMapCtxDB;
import org.eclipse.californium.oscore.OSCoreCoapStackFactory;
import org.eclipse.californium.oscore.OSCoreCtx;

/**
 * As RdServer, with OSCORE in the place of DTLS. Words: the CoAP port, and how many devices have a context.
 */
public final class OscoreServer {
    private OscoreServer() {
    }

    public static void main(String[] words) throws Exception {
        UdpConfig.register();
        CoapConfig.register();
        int devices = Integer.parseInt(words[1]);
        Configuration configuration = new Configuration();
        configuration.set(CoapConfig.MAX_ACTIVE_PEERS, devices * 4);
        configuration.set(CoapConfig.PROTOCOL_STAGE_THREAD_COUNT, 1);
        OSCoreCoapStackFactory.useAsDefault(contexts(devices));
        CoapServer server = new CoapServer(configuration);
        server.addEndpoint(CoapEndpoint.builder().setConfiguration(configuration)
                .setInetSocketAddress(new InetSocketAddress("127.0.0.1", Integer.parseInt(words[0]))).build());
        server.add(new Rd.Directory(), new Rd.Reports());
        server.start();
        System.out.println("ready");
        System.in.read();
        System.exit(0);
    }

    private static HashMapCtxDB contexts(int devices) throws Exception {
        HashMapCtxDB database = new HashMapCtxDB();
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        for (int number = 0; number < devices; number++) {
            String name = String.format("load-%08d", number);
            byte[] secret = Arrays.copyOf(digest.digest(("oscore " + name).getBytes("UTF-8")), 16);
            byte[] id = ByteBuffer.allocate(4).putInt(number).array();
            database.addContext(new OSCoreCtx(secret, false, AlgorithmID.AES_CCM_16_64_128, new byte[] {'s'}, id,
                    AlgorithmID.HKDF_HMAC_SHA_256, 32, null, null, 4096));
        }
        return database;
    }
}
